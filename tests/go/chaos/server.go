// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	answerTimeMax = 20 * time.Second // nothing may take longer: a start, a restart, an answer
	orphanTimeMax = 5 * time.Second  // a worker must follow its keeper within this
	logTail       = 25               // lines of the server's log that a failure shows
)

// server is the program under test. Only the killer and the main goroutine start and stop it.
type server struct {
	w       *world
	log     *os.File
	starter chan func() // runs on one thread for ever, see startOn

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil: not running
	ready  chan struct{} // closed when this process said ready
	ended  chan struct{} // closed when this process has been waited for
	wanted bool          // it should be running: an end is not our doing
	killed map[int]bool  // workers that we killed
	tail   []string
}

func newServer(w *world) *server {
	s := &server{w: w, killed: map[int]bool{}, starter: make(chan func())}
	go s.startOn()
	return s
}

// startOn starts the processes. Their parent-death signal belongs to the thread that made them, so
// they are all made on one that never ends.
func (s *server) startOn() {
	runtime.LockOSThread()
	for fn := range s.starter {
		fn()
	}
}

func (s *server) socket() string { return filepath.Join(s.w.dir, "s.sock") }

func (s *server) args() []string {
	args := []string{"--root", s.w.root(), "--address", s.socket()}
	if s.w.o.kind == "firstlight" {
		args = append(args, "--state", filepath.Join(s.w.dir, "state"))
	}
	return args
}

// start makes a new process and waits until it serves.
func (s *server) start() bool {
	if err := s.spawn(); err != nil {
		s.w.violate("cannot start %s: %v", s.w.o.server, err)
		return false
	}
	return s.waitReady()
}

func (s *server) spawn() error {
	if s.log == nil {
		f, err := os.Create(filepath.Join(s.w.dir, "log"))
		if err != nil {
			return err
		}
		s.log = f
	}
	r, wr, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command(s.w.o.server, s.args()...)
	cmd.Stdout, cmd.Stderr = wr, wr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	result := make(chan error)
	s.starter <- func() { result <- cmd.Start() }
	err = <-result
	wr.Close()
	if err != nil {
		r.Close()
		return err
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	s.mu.Lock()
	s.cmd, s.ready, s.ended, s.wanted = cmd, ready, ended, true
	s.mu.Unlock()
	go s.readLog(r, cmd.Process.Pid, ready)
	go s.reap(cmd, ended)
	return nil
}

// reap waits for the process. An end that we did not cause is a violation.
func (s *server) reap(cmd *exec.Cmd, ended chan struct{}) {
	cmd.Wait()
	s.mu.Lock()
	surprise := s.wanted && s.cmd == cmd
	s.mu.Unlock()
	close(ended)
	if surprise {
		s.w.violate("the server (pid %d) ended by itself: %v\n%s",
			cmd.Process.Pid, cmd.ProcessState, s.lastLog())
	}
}

func (s *server) readLog(r *os.File, pid int, ready chan struct{}) {
	defer r.Close()
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 1<<20)
	said := false
	for scan.Scan() {
		line := scan.Text()
		if !said && strings.Contains(line, "ready") {
			said = true
			close(ready)
		}
		fmt.Fprintf(s.log, "%10.3f [%d] %s\n", time.Since(s.w.start).Seconds(), pid, line)
		s.mu.Lock()
		s.tail = append(s.tail, line)
		if len(s.tail) > 2*logTail {
			s.tail = append([]string(nil), s.tail[logTail:]...)
		}
		s.mu.Unlock()
	}
}

func (s *server) lastLog() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := len(s.tail) - logTail
	if from < 0 {
		from = 0
	}
	return "    server: " + strings.Join(s.tail[from:], "\n    server: ")
}

// waitReady waits until the process that runs now has said that it serves.
func (s *server) waitReady() bool {
	s.mu.Lock()
	ready, ended := s.ready, s.ended
	s.mu.Unlock()
	select {
	case <-ready:
		return true
	case <-ended:
		return false // reap has told it
	case <-time.After(answerTimeMax):
		s.w.violate("the server did not say ready within %s\n%s", answerTimeMax, s.lastLog())
		return false
	}
}

func (s *server) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// worker returns the keeper's child, 0 when there is none at this moment.
func (s *server) worker() int {
	pid := s.pid()
	if pid == 0 || s.w.o.kind != "firstlight" {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	for _, field := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(field); err == nil && alive(child) {
			return child
		}
	}
	return 0
}

// alive is false for a zombie.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(text), ") ")
	return after != "" && after[0] != 'Z' && after[0] != 'X'
}

// kill ends the process by SIGKILL and waits for it.
func (s *server) kill() {
	s.mu.Lock()
	cmd, ended := s.cmd, s.ended
	s.cmd, s.wanted = nil, false
	s.mu.Unlock()
	if cmd != nil {
		cmd.Process.Kill()
		<-ended
	}
}

// terminate asks the process to end and wants exit status 0.
func (s *server) terminate() bool {
	s.mu.Lock()
	cmd, ended := s.cmd, s.ended
	s.wanted = false
	s.mu.Unlock()
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(answerTimeMax):
		s.w.violate("the server did not end within %s after SIGTERM\n%s", answerTimeMax, s.lastLog())
		return false
	}
	s.mu.Lock()
	s.cmd = nil
	s.mu.Unlock()
	if !cmd.ProcessState.Success() {
		s.w.violate("after SIGTERM the server ended with %v\n%s", cmd.ProcessState, s.lastLog())
		return false
	}
	return true
}

// watch looks for workers that end although nobody killed them.
func (s *server) watch() {
	if s.w.o.kind != "firstlight" {
		return
	}
	keeper, worker := 0, 0
	for !s.w.stopped() {
		time.Sleep(10 * time.Millisecond)
		k, now := s.pid(), s.worker()
		if k == keeper && worker != 0 && now != worker && !alive(worker) {
			s.mu.Lock()
			ours := s.killed[worker] || s.cmd == nil || s.cmd.Process.Pid != keeper
			s.mu.Unlock()
			if !ours {
				s.w.violate("the worker (pid %d) ended, and nobody killed it\n%s", worker, s.lastLog())
			}
		}
		if k != keeper || now != 0 {
			keeper, worker = k, now
		}
	}
}
