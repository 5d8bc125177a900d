package wire

import "sync"

// Read buffers that no connection has at the moment, of the two usual sizes.
var (
	smallBuffers = sync.Pool{New: func() any { return new([readBufferBytes]byte) }}
	bulkBuffers  = sync.Pool{New: func() any { return new([bulkBufferBytes]byte) }}
)

// takeBuffer takes a buffer from one of the pools.
func takeBuffer(from *sync.Pool) []byte {
	switch b := from.Get().(type) {
	case *[readBufferBytes]byte:
		return b[:]
	case *[bulkBufferBytes]byte:
		return b[:]
	}
	return nil
}

// recycle gives a buffer back, if it is of a usual size. It must not be used any more.
func recycle(b []byte) {
	switch len(b) {
	case readBufferBytes:
		smallBuffers.Put((*[readBufferBytes]byte)(b))
	case bulkBufferBytes:
		bulkBuffers.Put((*[bulkBufferBytes]byte)(b))
	}
}

// freshReader is a socket that takes a buffer from a pool when there is something to
// read, and not before. The caller has to recycle it.
type freshReader interface {
	readFresh(from *sync.Pool) (b []byte, n int, err error)
}
