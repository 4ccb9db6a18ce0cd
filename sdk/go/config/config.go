// Package config reads what a function is told about the place it runs in: the `env` of its manifest, and the
// secrets that the manifest asks for by `allow.secrets = ["NAME"]`. Where both have a key, the secret wins.
//
// On any system but a node, as in `go test`, these are the variables of the environment.
package config

// Get is the value of a key; `found` is false when there is none, and for a secret that was not granted.
func Get(key string) (value string, found bool) { return get(key) }

// All is every key with its value.
func All() map[string]string { return all() }
