//go:build !wasip1

package config

import (
	"os"
	"strings"
)

func get(key string) (string, bool) { return os.LookupEnv(key) }

func all() map[string]string {
	values := map[string]string{}
	for _, variable := range os.Environ() {
		key, value, _ := strings.Cut(variable, "=")
		values[key] = value
	}
	return values
}
