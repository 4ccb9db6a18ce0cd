package abi

// place is memory outside of the heap, where the host writes strings and lists.
//
// The host asks for it in the middle of a call, when a guest may not call anyone, not even for the time. The heap
// does both when it grows, so nothing here may allocate, and nothing may make the stack grow: hence go:nosplit.
//
// Small things lie in one region, one behind the other; each thing that does not fit has a block. What the host
// wrote is copied into the heap as it is read, and then its memory is free again.
type place struct {
	// Of the region: where it ends, where the next thing goes, and what is kept until the end of the call and
	// for ever.
	end, top, kept, lasting uintptr
	blocks                  [32]block
}

type block struct {
	at, size uintptr
	use      use
}

// use says how long a block is needed.
type use uint8

const (
	free use = iota
	untilRead
	untilReturn
	always
)

// take finds memory. 0 is none: then make a block and add it.
//
//go:nosplit
func (p *place) take(size, align uintptr) uintptr {
	at := (p.top + align - 1) &^ (align - 1)
	if at <= p.end && size <= p.end-at {
		p.top = at + size
		return at
	}
	for i := range p.blocks {
		block := &p.blocks[i]
		if block.use == free && block.size >= size {
			block.use = untilRead
			return block.at
		}
	}
	return 0
}

// add adds a block that is in use. A block too many is never used again.
//
//go:nosplit
func (p *place) add(at, size uintptr) {
	for i := range p.blocks {
		if p.blocks[i].size == 0 {
			p.blocks[i] = block{at, size, untilRead}
			return
		}
	}
}

// taken frees what was read.
func (p *place) taken() {
	p.top = p.kept
	p.change(untilRead, free)
}

// keep makes what is there last until the end of the call.
func (p *place) keep() {
	p.kept = p.top
	p.change(untilRead, untilReturn)
}

// last makes what is there last for ever.
func (p *place) last() {
	p.kept, p.lasting = p.top, p.top
	p.change(untilRead, always)
	p.change(untilReturn, always)
}

// returned frees all but what lasts for ever.
func (p *place) returned() {
	p.top, p.kept = p.lasting, p.lasting
	p.change(untilRead, free)
	p.change(untilReturn, free)
}

func (p *place) change(from, to use) {
	for i := range p.blocks {
		if p.blocks[i].size != 0 && p.blocks[i].use == from {
			p.blocks[i].use = to
		}
	}
}
