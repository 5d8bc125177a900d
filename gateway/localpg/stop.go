package localpg

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// Stop shuts the server down in fast mode, which ends its sessions and writes a checkpoint, and waits until it has
// exited. A server that is not running is no error. When ctx ends first, so does the waiting, with ctx's error; the
// server is still stopping then, and StopImmediate or Kill will hurry it.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.afterRestart(ctx); err != nil {
		return s.wrap("stopping", err)
	}
	return s.wrap("stopping", s.stop(ctx))
}

func (s *Server) stop(ctx context.Context) error {
	p := s.current()
	if p.exited() {
		return nil
	}
	if err := s.thaw(p); err != nil {
		return err
	}
	if err := p.signal(syscall.SIGINT); err != nil {
		return err
	}
	select {
	case <-p.done:
		s.opts.Logger.Info("PostgreSQL has stopped", "name", s.opts.Name)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// StopImmediate makes the server exit without a checkpoint (SIGQUIT) and waits until it has. The next start recovers
// as after a crash. When ctx ends first, or after seven seconds, the server is killed.
func (s *Server) StopImmediate(ctx context.Context) error {
	if err := s.afterRestart(context.WithoutCancel(ctx)); err != nil {
		return s.wrap("stopping", err)
	}
	p := s.current()
	if err := s.thaw(p); err != nil {
		return s.wrap("stopping", err)
	}
	return s.wrap("stopping", stopNow(ctx, p))
}

// Kill ends the postmaster and all its children by SIGKILL, as the kernel or a crash would, and waits until they are
// gone. What was committed is there after a Restart.
func (s *Server) Kill() error {
	if err := s.afterRestart(context.Background()); err != nil {
		return s.wrap("killing", err)
	}
	return s.wrap("killing", s.current().killServer())
}

// stopNow ends a postmaster without a checkpoint, and kills it if it does not go.
func stopNow(ctx context.Context, p *process) error {
	if err := p.signal(syscall.SIGQUIT); err != nil {
		return err
	}
	late := time.NewTimer(orphanImmediateWait)
	defer late.Stop()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	case <-late.C:
	}
	return p.killServer()
}

// Pause freezes the server: it keeps its connections and its port, and does not answer. It is for tests of timeouts.
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run.exited() {
		return s.wrap("pausing", errors.New("it is not running"))
	}
	s.frozen = true
	return s.wrap("pausing", s.run.signalAll(syscall.SIGSTOP))
}

// Resume lets a paused server go on. A server that is not paused is no error.
func (s *Server) Resume() error {
	return s.wrap("resuming", s.thaw(s.current()))
}

func (s *Server) thaw(p *process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.frozen || p != s.run {
		return nil
	}
	s.frozen = false
	return p.signalAll(syscall.SIGCONT)
}
