package kv_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mote.dev/function/kv"
)

func open(t *testing.T) *kv.Bucket {
	t.Helper()
	bucket, err := kv.Open(strings.ToLower(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

func TestValuesComeBack(t *testing.T) {
	bucket := open(t)
	if value, found, err := bucket.Get("lamp"); found || err != nil {
		t.Errorf("%q, %v", value, err)
	}
	if err := bucket.Set("lamp", []byte("on")); err != nil {
		t.Fatal(err)
	}
	if value, found, err := bucket.Get("lamp"); string(value) != "on" || !found || err != nil {
		t.Errorf("%q, %t, %v", value, found, err)
	}
	if err := bucket.Delete("lamp"); err != nil {
		t.Fatal(err)
	}
	if there, err := bucket.Exists("lamp"); there || err != nil {
		t.Errorf("%t, %v", there, err)
	}
	if err := bucket.Set("lamp", make([]byte, 70_000)); err == nil {
		t.Error("a value of 70000 bytes is set")
	}
}

func TestNumbersAreAddedTo(t *testing.T) {
	bucket := open(t)
	for _, want := range []int64{5, 10} {
		if sum, err := bucket.Increment("calls", 5); sum != want || err != nil {
			t.Errorf("%d, %v", sum, err)
		}
	}
	bucket.Set("calls", []byte("many"))
	if sum, err := bucket.Increment("calls", 1); err == nil {
		t.Errorf("many and one are %d", sum)
	}
}

func TestKeysComeInPages(t *testing.T) {
	bucket := open(t)
	for i := range 1001 {
		bucket.Set(fmt.Sprintf("%04d", i), nil)
	}
	keys, next, err := bucket.Keys("")
	if len(keys) != 1000 || next == "" || err != nil {
		t.Fatalf("%d keys, then %q, %v", len(keys), next, err)
	}
	keys, next, err = bucket.Keys(next)
	if !slices.Equal(keys, []string{"1000"}) || next != "" || err != nil {
		t.Errorf("%q, then %q, %v", keys, next, err)
	}
}

func TestAnUpdateSeesWhatWasThere(t *testing.T) {
	bucket := open(t)
	attempts := 0
	add := func(old []byte) ([]byte, error) {
		if attempts++; attempts == 1 {
			bucket.Set("list", []byte("x"))
		}
		return append(old, 'y'), nil
	}
	if err := bucket.Update("list", add); err != nil {
		t.Fatal(err)
	}
	if value, _, _ := bucket.Get("list"); string(value) != "xy" || attempts != 2 {
		t.Errorf("%q after %d attempts", value, attempts)
	}
	always := func(old []byte) ([]byte, error) { return old, bucket.Set("list", append(old, 'z')) }
	if err := bucket.Update("list", always); !errors.Is(err, kv.ErrChanged) {
		t.Errorf("a key that always changes gives %v", err)
	}
}

func TestNamesOfBuckets(t *testing.T) {
	for _, name := range []string{"", "Big", "a/b", strings.Repeat("a", 64)} {
		if _, err := kv.Open(name); !errors.Is(err, kv.ErrNoSuchStore) {
			t.Errorf("%q gives %v", name, err)
		}
	}
}
