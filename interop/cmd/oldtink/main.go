// Oldtink serves package oldtink on its standard input and output.
package main

import (
	"fmt"
	"os"

	"github.com/keycote/keycote/interop/oldtink"
	"github.com/keycote/keycote/interop/wire"
)

func main() {
	if err := wire.Answer(os.Stdin, os.Stdout, oldtink.Serve); err != nil {
		fmt.Fprintln(os.Stderr, "oldtink:", err)
		os.Exit(1)
	}
}
