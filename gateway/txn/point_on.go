//go:build crashpoints

package txn

import (
	"fmt"
	"os"
	"strings"

	"github.com/shardgate/shardgate/gateway/pool"
)

// Reach stops the process, or cuts c, at the step that SHARDGATE_CRASH names: "exit" or
// "cut", and the point.
func Reach(p Point, c *pool.Conn) {
	action, at, _ := strings.Cut(os.Getenv("SHARDGATE_CRASH"), " ")
	if Point(at) != p {
		return
	}
	switch action {
	case "exit":
		fmt.Fprintln(os.Stderr, "stopped at the point:", p)
		os.Exit(3)
	case "cut":
		if c != nil {
			fmt.Fprintln(os.Stderr, "cut at the point:", p)
			c.NetConn().Close()
		}
	}
}
