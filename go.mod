module github.com/keycote/keycote

go 1.25.0

require (
	github.com/ccojocar/zxcvbn-go v1.0.4
	github.com/stretchr/testify v1.12.1 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	github.com/tink-crypto/tink-go/v2 v2.9.0 // indirect
	golang.org/x/text v0.41.0
)
