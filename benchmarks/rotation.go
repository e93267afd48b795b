package main

import "context"

// rotations is F11, of which there is nothing to measure yet.
func rotations(context.Context, *lab) ([]line, error) {
	return []line{{
		what: "calls to the KMS for each tenant when the KEK is rotated", goal: goal{counted, 2}, unit: "calls", missing: "not built",
	}}, nil
}
