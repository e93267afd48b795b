// Clash is the host that Keycote's README warns of: it links the old Tink and the one that Keycote uses. It builds, and
// panics before main unless the environment says GOLANG_PROTOBUF_REGISTRATION_CONFLICT=warn; then each of the two opens
// what the other has sealed.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/keycote/keycote/interop/newtink"
	"github.com/keycote/keycote/interop/oldtink"
	"github.com/keycote/keycote/interop/wire"
)

func main() {
	serve := map[string]wire.Serve{"old": oldtink.Serve, "new": newtink.Serve}
	for maker, reader := range map[string]string{"old": "new", "new": "old"} {
		if err := agree(serve[maker], serve[reader]); err != nil {
			fmt.Fprintf(os.Stderr, "clash: made by the %s Tink: %v\n", maker, err)
			os.Exit(1)
		}
	}
	fmt.Println("started, and agreed both ways")
}

func agree(maker, reader wire.Serve) error {
	want := []byte("plaintext")
	kek := bytes.Repeat([]byte{7}, 32)
	keyset, err := maker(wire.Request{Op: wire.Make, Template: wire.AES256GCM, KEK: kek})
	if err != nil {
		return err
	}
	sealed, err := maker(wire.Request{Op: wire.Seal, KEK: kek, Keyset: keyset, Input: want})
	if err != nil {
		return err
	}
	got, err := reader(wire.Request{Op: wire.Open, KEK: kek, Keyset: keyset, Input: sealed})
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("opened to %q, not %q", got, want)
	}
	return nil
}
