package localpg

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

const loopback = "127.0.0.1"

// Ports are chosen below those that the system gives to outgoing connections (Linux: from 32768), so that a server
// which is stopped and started again finds its port free, however many connections the tests open meanwhile.
const (
	firstPort = 15000
	lastPort  = 32000
)

// ports are those that the servers of this process hold, also while they are stopped.
var ports = struct {
	sync.Mutex
	taken map[int]bool
}{taken: map[int]bool{}}

// choosePort reserves a free loopback port within this process. Another process may still take it before the server
// does; Start sees that and asks again. releasePort gives it back.
func choosePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if !ports.taken[port] && portFree(port) {
			ports.taken[port] = true
			return port, nil
		}
	}
	return 0, errors.New("no free loopback port found")
}

func releasePort(port int) {
	ports.Lock()
	defer ports.Unlock()
	delete(ports.taken, port)
}

func portFree(port int) bool {
	l, err := net.Listen("tcp4", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = l.Close() // nothing was accepted
	return true
}

// ErrPortInUse is matched by the error of Start and Restart when another program listens on the port that was asked for.
var ErrPortInUse = errors.New("the port is in use")

func portError(port int) error { return fmt.Errorf("%w: %d", ErrPortInUse, port) }
