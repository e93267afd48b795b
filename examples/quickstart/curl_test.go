package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// curl is as much of curl as the printed commands use, so that their tests need no curl on the machine. What it does not
// know it refuses: a command that needs more fails here.
func curl(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	method, url, body := "", "", io.Reader(nil)
	header := http.Header{}
	read := func(arg string) (string, error) { // -H and -d take @file, and @- for the standard input
		name, ok := strings.CutPrefix(arg, "@")
		if !ok {
			return arg, nil
		}
		if name == "-" {
			b, err := io.ReadAll(stdin)
			return string(b), err
		}
		b, err := os.ReadFile(name)
		return string(b), err
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "-sS":
		case (arg == "-H" || arg == "-d" || arg == "-X") && len(args) > 0:
			value, err := read(args[0])
			if err != nil {
				fmt.Fprintln(stderr, "curl:", err)
				return 26
			}
			args = args[1:]
			switch arg {
			case "-X":
				method = value
			case "-d":
				body = strings.NewReader(value)
			default:
				for line := range strings.Lines(value) {
					name, v, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
					header.Set(name, strings.TrimSpace(v))
				}
			}
		case !strings.HasPrefix(arg, "-") && url == "":
			url = arg
		default:
			fmt.Fprintln(stderr, "curl: this small one does not know", arg)
			return 2
		}
	}
	if method == "" {
		method = http.MethodGet
		if body != nil {
			method = http.MethodPost
		}
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		fmt.Fprintln(stderr, "curl:", err)
		return 3
	}
	req.Header = header
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl does
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Fprintln(stderr, "curl:", err)
		return 7
	}
	defer resp.Body.Close()
	if _, err := io.Copy(stdout, resp.Body); err != nil {
		return 56
	}
	return 0
}
