// Package wire is what the tests and the program that links the old Tink say to each other: one JSON Request after the
// other on its standard input, one Response each on its standard output. It imports neither Tink.
package wire

import (
	"encoding/json"
	"errors"
	"io"
)

// Op is what a Request asks for.
type Op string

// The operations. Every one but Make opens Keyset first, and fails when that fails.
const (
	Make   Op = "make"   // a new keyset with one key of Template
	Grow   Op = "grow"   // Keyset with one more key of Template, which is its primary from now on
	Seal   Op = "seal"   // AEAD encryption of Input under InputAD
	Open   Op = "open"   // AEAD decryption of Input under InputAD
	MAC    Op = "mac"    // the tag of Input
	Verify Op = "verify" // whether Tag is the tag of Input
	PRF    Op = "prf"    // Length bytes of the PRF's output for Input, by the primary key
)

// Template names one of the three kinds of key that stand in Keycote's keyrings (docs/formats.md).
type Template string

// The templates.
const (
	HMACPRF   Template = "HMAC_SHA256_PRF"    // index keyring
	HMACTag   Template = "HMAC_SHA256_256TAG" // record and trail keyrings; TINK prefix
	AES256GCM Template = "AES256_GCM"         // data keyrings; TINK prefix
)

// Request asks for one operation. Keysets travel encrypted under KEK, a raw AES-256-GCM key, and KeysetAD, written by
// Tink's BinaryWriter.
type Request struct {
	Op       Op       `json:"op"`
	Template Template `json:"template,omitempty"` // of Make and Grow
	KEK      []byte   `json:"kek"`
	Keyset   []byte   `json:"keyset,omitempty"`
	KeysetAD []byte   `json:"keysetAd,omitempty"`
	Input    []byte   `json:"input,omitempty"`
	InputAD  []byte   `json:"inputAd,omitempty"`
	Tag      []byte   `json:"tag,omitempty"`
	Length   uint32   `json:"length,omitempty"`
}

// Response is the answer: Output, or the text of an error.
type Response struct {
	Output []byte `json:"output,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Serve answers one Request with an output or an error.
type Serve func(Request) ([]byte, error)

// Answer reads Requests from r until it ends, and writes what serve says to w. Its error is one of the pipe: those of
// serve travel in the Response.
func Answer(r io.Reader, w io.Writer, serve Serve) error {
	in, out := json.NewDecoder(r), json.NewEncoder(w)
	for {
		var req Request
		switch err := in.Decode(&req); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		var resp Response
		output, err := serve(req)
		if err != nil {
			resp.Error = err.Error()
		} else {
			resp.Output = output
		}
		if err := out.Encode(resp); err != nil {
			return err
		}
	}
}
