// Package interop holds tests only: they prove that what Keycote writes with github.com/tink-crypto/tink-go/v2 is read
// by the module it grew out of, github.com/google/tink/go v1.7.0, and the other way round.
//
// One program cannot link both: they register the same protobuf files, and the second to do so panics before main. So
// the old module lives in a program of its own, oldtink, which the tests build, start and talk to in the messages of
// package wire; the test binary links v2 alone. clash is the program that links both, kept to show that the panic is
// still there and what a host that cannot get rid of the old module may do about it.
//
// A keyring that a release of Keycote wrote goes to testdata/keyrings, one JSON file each, and stays for ever:
// TestVectors opens every file there with both modules.
package interop
