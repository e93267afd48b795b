package main

import (
	"io"
	"net"
	"strings"
)

// commands is what is printed at the start. All of it is a POSIX shell script, so that it may be pasted line by line or
// as a whole; its comments hold no quotes, parentheses or stars, because zsh reads a pasted comment as a command. No key
// stands in a command line, where every process could read it: keys go through files and pipes; and none goes to a proxy
// that the environment may name. It may be run again, as each run gives its keys names of their own.
const commands = `# Keycote quickstart on http://{addr}
# Ctrl-C stops it; everything is kept. Paste what follows into a second terminal.
API='http://{addr}'
DATA={data}
export no_proxy="{host},${no_proxy:-${NO_PROXY:-}}"
NOW=$(date +%s).$$
field() { sed -n 's/.*"'"$1"'": *"\([^"]*\)".*/\1/p'; }

# 1. Issue a key that may read and write orders. Its value is shown this once.
ANSWER=$(printf '{"name":"shop %s","app":"shop","scopes":["orders:read","orders:write"]}' "$NOW" | curl -sS -H @"$DATA/admin.header" -d @- "$API/admin/keys")
ID=$(printf '%s\n' "$ANSWER" | field id)
KEY=$(printf '%s\n' "$ANSWER" | field secret)
echo "$ID"

# 2. Call the protected routes with it.
printf 'Authorization: Bearer %s\n' "$KEY" | curl -sS -H @- -d '{"item":"tea","quantity":2}' "$API/orders"
printf 'Authorization: Bearer %s\n' "$KEY" | curl -sS -H @- "$API/orders"

# 3. Be refused with a wrong one: its last character is missing.
printf 'Authorization: Bearer %s\n' "${KEY%?}" | curl -sS -H @- "$API/orders"

# 4. Add a credential: an endpoint, and the key that its owner gave you.
ANSWER=$(printf '{"name":"echo %s","app":"shop","endpoint":"{echo}","secret":"%s"}' "$NOW" "$(cat "$DATA/echo/upstream.key")" | curl -sS -H @"$DATA/admin.header" -d @- "$API/admin/credentials")
CRED=$(printf '%s\n' "$ANSWER" | field id)
echo "$CRED"

# 5. Use it: the quickstart calls the endpoint with the key, and nobody sees the key.
curl -sS -H @"$DATA/admin.header" -X POST "$API/admin/credentials/$CRED/use"

# 6. Rotate the issued key with an overlap: for ten minutes the old value and the new one both work.
ANSWER=$(curl -sS -H @"$DATA/admin.header" -d '{"overlap":"10m","reason":"quickstart"}' "$API/admin/keys/$ID/rotate")
NEW=$(printf '%s\n' "$ANSWER" | field secret)
printf 'Authorization: Bearer %s\n' "$KEY" | curl -sS -H @- "$API/orders"
printf 'Authorization: Bearer %s\n' "$NEW" | curl -sS -H @- "$API/orders"

# 7. Revoke it. Both values are refused from now on.
curl -sS -H @"$DATA/admin.header" -d '{"reason":"quickstart is over"}' "$API/admin/keys/$ID/revoke"
printf 'Authorization: Bearer %s\n' "$KEY" | curl -sS -H @- "$API/orders"
printf 'Authorization: Bearer %s\n' "$NEW" | curl -sS -H @- "$API/orders"

# 8. List the keys.
curl -sS -H @"$DATA/admin.header" "$API/admin/keys"

# 9. See the events, newest first.
curl -sS -H @"$DATA/admin.header" "$API/admin/events"
# End of the commands.
`

func printCommands(w io.Writer, addr, echo string, f files) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	_, err = strings.NewReplacer(
		"{addr}", addr, "{host}", host, "{data}", shellQuote(f.data), "{echo}", echo,
	).WriteString(w, commands)
	return err
}

// shellQuote makes one word of s for a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
