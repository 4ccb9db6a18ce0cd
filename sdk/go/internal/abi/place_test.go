package abi

import "testing"

// emptyPlace is a place whose region begins at 1000 and has 100 bytes.
func emptyPlace() *place {
	return &place{end: 1100, top: 1000, kept: 1000, lasting: 1000}
}

// want takes memory and tells where that must be, 0 for none.
func (p *place) want(t *testing.T, size, align, at uintptr) {
	t.Helper()
	if got := p.take(size, align); got != at {
		t.Fatalf("%d bytes aligned to %d are at %d, not at %d", size, align, got, at)
	}
}

func TestThingsLieBehindEachOtherAndAreAligned(t *testing.T) {
	place := emptyPlace()
	place.want(t, 3, 8, 1000)
	place.want(t, 5, 8, 1008)
	place.want(t, 1, 1, 1013)
	place.want(t, 0, 8, 1016)
	place.want(t, 84, 8, 1016)
	place.want(t, 1, 1, 0)
}

func TestWhatWasReadIsFreeAgain(t *testing.T) {
	place := emptyPlace()
	place.want(t, 60, 1, 1000)
	place.want(t, 60, 1, 0)
	place.taken()
	place.want(t, 60, 1, 1000)
}

func TestWhatIsKeptLastsUntilTheCallReturns(t *testing.T) {
	place := emptyPlace()
	place.want(t, 10, 1, 1000)
	place.last()
	place.want(t, 10, 1, 1010)
	place.keep()
	place.want(t, 10, 1, 1020)
	place.taken()
	place.want(t, 10, 1, 1020)
	place.returned()
	place.want(t, 10, 1, 1010)
}

func TestBlocksAreUsedAgainWhenTheyAreFree(t *testing.T) {
	place := emptyPlace()
	place.want(t, 200, 8, 0)
	place.add(5000, 256)
	place.want(t, 200, 8, 0)
	place.taken()
	place.want(t, 300, 8, 0)
	place.want(t, 200, 8, 5000)
	place.keep()
	place.taken()
	place.want(t, 200, 8, 0)
	place.returned()
	place.want(t, 200, 8, 5000)
	place.last()
	place.returned()
	place.want(t, 200, 8, 0)
}

func TestABlockTooManyIsForgotten(t *testing.T) {
	place := emptyPlace()
	for range place.blocks {
		place.add(5000, 256)
	}
	place.add(9000, 1<<20)
	place.taken()
	place.want(t, 1000, 8, 0)
}

func TestSizesThatWrapAroundDoNotFit(t *testing.T) {
	place := emptyPlace()
	place.want(t, ^uintptr(0), 8, 0)
	place.want(t, ^uintptr(0)-1000, 8, 0)
}
