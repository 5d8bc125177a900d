//go:build !(linux && (amd64 || arm64))

package localpg

// releaseSharedMemory does nothing here: the segment of a killed server stays until the machine is restarted.
func releaseSharedMemory(lockFile) {}
