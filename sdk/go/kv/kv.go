// Package kv keeps small values that the functions of an app share and that outlive their calls.
//
// The function's manifest must say `allow.keyvalue = true`. A key has 1 to 512 bytes, a value at most 64 KiB, and
// the node limits what an app keeps in all. A write that returned is seen by every read that begins after it.
//
// On any system but a node, as in `go test`, the values are kept in the memory of the program.
package kv

import "errors"

// Default is the name of the bucket for those who need only one.
const Default = "default"

var (
	// ErrDenied is a manifest that does not say `allow.keyvalue = true`.
	ErrDenied = errors.New("key-value data is not allowed; add `allow.keyvalue = true` to the function in mote.toml")
	// ErrNoSuchStore is the name of a bucket that is not 1 to 63 lower-case letters, digits and hyphens.
	ErrNoSuchStore = errors.New("no such key-value store: a bucket's name has 1 to 63 lower-case letters, digits and hyphens")
	// ErrChanged is a swap that did not happen, because the key was changed meanwhile.
	ErrChanged = errors.New("the key was changed meanwhile")
)

// Bucket is a name space of the app's key-value data. It is there as soon as it has a key.
type Bucket struct {
	handle bucketHandle
}

// Open opens a bucket. Keep it in a variable of the call: another call may run in another memory.
func Open(name string) (*Bucket, error) {
	handle, err := open(name)
	if err != nil {
		return nil, err
	}
	return &Bucket{handle}, nil
}

// Get is the value of a key. `found` tells a value without bytes from none.
func (b *Bucket) Get(key string) (value []byte, found bool, err error) { return b.handle.get(key) }

// Set sets a key. A value that is refused leaves the old one.
func (b *Bucket) Set(key string, value []byte) error { return b.handle.set(key, value) }

// Delete removes a key, if it is there.
func (b *Bucket) Delete(key string) error { return b.handle.delete(key) }

// Exists tells whether a key is there.
func (b *Bucket) Exists(key string) (bool, error) { return b.handle.exists(key) }

// Increment adds to a number, with nothing in between, and returns the sum. The value is decimal text; a key that
// is not there counts as 0.
func (b *Bucket) Increment(key string, by int64) (int64, error) { return b.handle.increment(key, by) }

// Keys are at most 1,000 keys, in the order of their bytes: the first ones for the cursor "", and those behind it
// for the cursor of an earlier answer. There are no more when `next` is "".
func (b *Bucket) Keys(cursor string) (keys []string, next string, err error) {
	return b.handle.keys(cursor)
}

// Update sets a key to what `change` makes of its value, with nothing in between: when the key was changed
// meanwhile, `change` is asked again, up to ten times, and then the error is [ErrChanged].
// `old` is nil for a key that is not there.
func (b *Bucket) Update(key string, change func(old []byte) (value []byte, err error)) error {
	const attempts = 10
	for range attempts {
		swapped, err := b.handle.update(key, change)
		if swapped || err != nil {
			return err
		}
	}
	return ErrChanged
}
