package keycote

// Message says err in words: a Violation, a Code, or an error that holds one. lang is a BCP 47 tag or the value of an
// Accept-Language header; English when nothing fits.
func Message(lang string, err error) string { return "" }
