//go:build !wasip1

package kv

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
)

// bucketHandle is the name of a bucket in the memory of the program.
type bucketHandle string

var (
	lock   sync.Mutex
	values = map[bucketHandle]map[string][]byte{}
)

func open(name string) (bucketHandle, error) {
	allowed := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' }
	if len(name) < 1 || len(name) > 63 || slices.ContainsFunc([]rune(name), func(r rune) bool { return !allowed(r) }) {
		return "", ErrNoSuchStore
	}
	lock.Lock()
	defer lock.Unlock()
	bucket := bucketHandle(name)
	if values[bucket] == nil {
		values[bucket] = map[string][]byte{}
	}
	return bucket, nil
}

func (b bucketHandle) get(key string) ([]byte, bool, error) {
	lock.Lock()
	defer lock.Unlock()
	value, found := values[b][key]
	return slices.Clone(value), found, nil
}

func (b bucketHandle) set(key string, value []byte) error {
	lock.Lock()
	defer lock.Unlock()
	return b.put(key, value)
}

// put is set by one who holds the lock. The bounds are those of a node.
func (b bucketHandle) put(key string, value []byte) error {
	const keyBytesMax, valueBytesMax = 512, 64 << 10
	switch {
	case len(key) < 1 || len(key) > keyBytesMax:
		return fmt.Errorf("key of %d bytes: 1 to %d are allowed", len(key), keyBytesMax)
	case len(value) > valueBytesMax:
		return fmt.Errorf("value of %d bytes for key `%s`: the limit is %d bytes", len(value), key, valueBytesMax)
	}
	values[b][key] = append([]byte{}, value...)
	return nil
}

func (b bucketHandle) delete(key string) error {
	lock.Lock()
	defer lock.Unlock()
	delete(values[b], key)
	return nil
}

func (b bucketHandle) exists(key string) (bool, error) {
	_, found, err := b.get(key)
	return found, err
}

func (b bucketHandle) increment(key string, by int64) (int64, error) {
	lock.Lock()
	defer lock.Unlock()
	var number int64
	if value, found := values[b][key]; found {
		var err error
		if number, err = strconv.ParseInt(string(value), 10, 64); err != nil {
			return 0, fmt.Errorf("the value of key `%s` is not a number", key)
		}
	}
	number += by
	return number, b.put(key, strconv.AppendInt(nil, number, 10))
}

func (b bucketHandle) keys(cursor string) ([]string, string, error) {
	const pageMax = 1000
	lock.Lock()
	defer lock.Unlock()
	keys := slices.Sorted(maps.Keys(values[b]))
	if cursor != "" {
		after, found := slices.BinarySearch(keys, cursor)
		if found {
			after++
		}
		keys = keys[after:]
	}
	if len(keys) > pageMax {
		return keys[:pageMax], keys[pageMax-1], nil
	}
	return keys, "", nil
}

func (b bucketHandle) update(key string, change func([]byte) ([]byte, error)) (bool, error) {
	old, found, err := b.get(key)
	if err != nil {
		return false, err
	}
	value, err := change(old)
	if err != nil {
		return false, err
	}
	lock.Lock()
	defer lock.Unlock()
	now, still := values[b][key]
	if still != found || !slices.Equal(now, old) {
		return false, nil
	}
	return true, b.put(key, value)
}
