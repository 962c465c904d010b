// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const clockTick = 10 * time.Millisecond // USER_HZ is 100 on every platform that we know

// costs are what others count for us: interface, registry, processes. Memory is no difference but what
// the watched processes hold (shared pages by their part) at the end.
type costs struct {
	Received uint64  `json:"received_bytes,omitempty"` // by -interface
	Requests int     `json:"requests,omitempty"`       // that the registry has answered, by -access
	CPU      float64 `json:"cpu_ms,omitempty"`         // of -watch and of this program
	PSS      uint64  `json:"pss_kb,omitempty"`         // of -watch
}

func (l *lazypull) count() costs {
	c := costs{Received: l.received(), Requests: l.lines()}
	if l.watch == "" {
		return c
	}
	var self syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &self)
	c.CPU = float64(self.Utime.Nano()+self.Stime.Nano()) / 1e6
	for _, pid := range strings.Split(l.watch, ",") {
		c.CPU += cpuOf(pid)
		c.PSS += pssOf(pid)
	}
	return c
}

func (c costs) since(before costs) costs {
	return costs{c.Received - before.Received, c.Requests - before.Requests, c.CPU - before.CPU, c.PSS}
}

// received is what the interface has received since it exists.
func (l *lazypull) received() uint64 {
	data, err := os.ReadFile("/proc/net/dev")
	if err != nil || l.link == "" {
		return 0
	}
	for _, line := range strings.Split(string(data), "\n") {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		if fields := strings.Fields(rest); name == l.link && len(fields) > 0 {
			n, _ := strconv.ParseUint(fields[0], 10, 64)
			return n
		}
	}
	return 0
}

func (l *lazypull) lines() int {
	if l.access == "" {
		return 0
	}
	data, _ := os.ReadFile(l.access)
	return bytes.Count(data, []byte{'\n'})
}

// cpuOf is the processor time of a process, in milliseconds; of its ended children that it waited for, too.
func cpuOf(pid string) (ms float64) {
	data, _ := os.ReadFile("/proc/" + pid + "/stat")
	// Fields are counted after the name, which may hold anything: utime, stime, cutime, cstime.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	for i := 11; i < 15 && i < len(fields); i++ {
		n, _ := strconv.ParseUint(fields[i], 10, 64)
		ms += float64(n) * float64(clockTick.Milliseconds())
	}
	return ms
}

func pssOf(pid string) (kb uint64) {
	data, _ := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	for _, line := range strings.Split(string(data), "\n") {
		if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kb); n == 1 {
			return kb
		}
	}
	return 0
}
