// Package keycote manages API keys in both directions: access keys, which a host's clients present to it, and
// credentials, which the host presents to somebody else's endpoint.
package keycote
