package measure

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// The test binary runs itself as the process that is measured.
const childVariable = "SHARDGATE_BENCH_CPU_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "burn":
		burn()
	case "parent":
		parent()
	}
	os.Exit(m.Run())
}

const burnt = 300 * time.Millisecond

// burn uses a known amount of CPU time, says so, and ends when its input does.
func burn() {
	for {
		if used, err := Self(); err != nil || used >= burnt {
			break
		}
	}
	fmt.Println("done")
	bufio.NewReader(os.Stdin).ReadString('\n')
	os.Exit(0)
}

// parent has one child that burns and ends, and then one that burns and stays.
func parent() {
	for i := range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"=burn")
		in, _ := cmd.StdinPipe()
		out, _ := cmd.StdoutPipe()
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		bufio.NewReader(out).ReadString('\n')
		if i == 0 {
			in.Close()
			cmd.Wait()
			continue
		}
		fmt.Println("done")
		bufio.NewReader(os.Stdin).ReadString('\n')
		in.Close()
		cmd.Wait()
	}
	os.Exit(0)
}

// start runs a child of ours until it has said that it is done.
func start(t *testing.T, what string) (pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+what)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "done\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	return cmd.Process.Pid
}

// slack is what starting a Go process and a clock tick may add.
const slack = 150 * time.Millisecond

func TestCPUOfAProcess(t *testing.T) {
	own, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	pid := start(t, "burn")
	used, err := CPU{PID: pid}.Used()
	if err != nil {
		t.Fatal(err)
	}
	if used < burnt || used > burnt+slack {
		t.Errorf("%v of CPU counted, %v used", used, burnt)
	}
	again, err := CPU{PID: pid}.Used()
	if err != nil || again < used || again-used > slack {
		t.Errorf("%v counted, and then %v for a process that waits: %v", used, again, err)
	}
	if now, err := Self(); err != nil || now-own > burnt {
		t.Errorf("the child's CPU time was counted as ours: %v, %v", now-own, err)
	}
}

// A tree counts the parent, the child that has ended and the one that lives.
func TestCPUOfATree(t *testing.T) {
	pid := start(t, "parent")
	tree, err := CPU{PID: pid, Tree: true}.Used()
	if err != nil {
		t.Fatal(err)
	}
	if tree < 2*burnt-20*time.Millisecond || tree > 2*burnt+3*slack {
		t.Errorf("%v of CPU counted, %v used", tree, 2*burnt)
	}
	alone, err := CPU{PID: pid}.Used()
	if err != nil || alone > slack {
		t.Errorf("the parent itself: %v, %v", alone, err)
	}
}

func TestCPUOfNothing(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	for _, tree := range []bool{false, true} {
		if used, err := (CPU{PID: cmd.Process.Pid, Tree: tree}).Used(); err == nil {
			t.Errorf("tree %v: a process that has ended used %v", tree, used)
		}
	}
}
