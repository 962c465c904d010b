// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/mount"
	"golang.org/x/sys/unix"
)

// place is what the mounts of a snapshot say about directories. All are ROOT/snapshots/<id>.
type place struct {
	own    string // of the snapshot itself; "" = not told (a view of something)
	work   bool   // it has a work directory
	lowers []string
}

func mountText(mounts []*types.Mount) string {
	var parts []string
	for _, m := range mounts {
		parts = append(parts, fmt.Sprintf("%s %s %s", m.Type, m.Source, strings.Join(m.Options, ",")))
	}
	return strings.Join(parts, "; ")
}

// snapshotDir takes ROOT/snapshots/<id>/<leaf> apart.
func (w *world) snapshotDir(path, leaf string) (string, error) {
	dir := filepath.Dir(path)
	if filepath.Base(path) != leaf || filepath.Dir(dir) != filepath.Join(w.root(), "snapshots") {
		return "", fmt.Errorf("%q is not ROOT/snapshots/<id>/%s", path, leaf)
	}
	return dir, nil
}

// parseMounts reads mounts of the forms that containerd's overlayfs answers.
func (w *world) parseMounts(s *snap, mounts []*types.Mount) (p place, err error) {
	if len(mounts) != 1 {
		return p, fmt.Errorf("%d mounts", len(mounts))
	}
	m := mounts[0]
	switch {
	case m.Type == "bind":
		dir, err := w.snapshotDir(m.Source, "fs")
		if err != nil {
			return p, err
		}
		if s.kind == kindView && s.parent != "" {
			p.lowers = []string{dir}
		} else {
			p.own, p.work = dir, s.kind == kindActive
		}
		mode := "rw"
		if s.kind == kindView {
			mode = "ro"
		}
		if !contains(m.Options, mode) {
			return p, fmt.Errorf("a bind mount that is not %s", mode)
		}
	case m.Type == "overlay":
		return w.parseOverlay(s, m)
	default:
		return p, fmt.Errorf("unknown type %q", m.Type)
	}
	return p, nil
}

func contains(list []string, what string) bool {
	for _, s := range list {
		if s == what {
			return true
		}
	}
	return false
}

func (w *world) parseOverlay(s *snap, m *types.Mount) (p place, err error) {
	work := ""
	for _, option := range m.Options {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "lowerdir":
			for _, path := range strings.Split(value, ":") {
				dir, err := w.snapshotDir(path, "fs")
				if err != nil {
					return p, err
				}
				p.lowers = append(p.lowers, dir)
			}
		case "upperdir":
			p.own, err = w.snapshotDir(value, "fs")
		case "workdir":
			work, err = w.snapshotDir(value, "work")
		}
		if err != nil {
			return p, err
		}
	}
	p.work = work != ""
	if (s.kind == kindActive) != (p.own != "") || p.own != work {
		return p, fmt.Errorf("upperdir and workdir do not fit a snapshot that is %s", s.kind)
	}
	return p, nil
}

func isDir(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.IsDir()
}

// checkMounts compares the mounts of a snapshot with the model and with the disk: the same answer
// as ever, every directory there, and every file that we wrote. Then it may really mount them.
func (c *client) checkMounts(name string, mounts []*types.Mount, really bool) {
	s := c.lookup(name)
	text := mountText(mounts)
	p, err := c.w.parseMounts(s, mounts)
	if err != nil {
		c.violate([]string{name}, "the mounts of %s: %v: %s", name, err, text)
		return
	}
	if s.mounts != "" && s.mounts != text {
		c.violate([]string{name}, "the mounts of %s were %s and are %s", name, s.mounts, text)
		return
	}
	bad := func(format string, args ...interface{}) {
		c.violate([]string{name}, "%s: %s; mounts: %s", name, fmt.Sprintf(format, args...), text)
	}
	if p.own != "" {
		if s.dir != "" && s.dir != p.own {
			bad("its directory was %s", s.dir)
		}
		c.checkOwn(p, s, bad)
	}
	below := c.chain(s.parent)
	if len(below) != len(p.lowers) {
		bad("%d lower directories for %d ancestors", len(p.lowers), len(below))
		return
	}
	for i, ancestor := range below {
		a := c.lookup(ancestor)
		if a.dir != "" && a.dir != p.lowers[i] {
			bad("the directory of its ancestor %s is %s", ancestor, a.dir)
		}
		checkMarks(filepath.Join(p.lowers[i], "fs"), a.marks, bad)
		if c.w.shared[ancestor] == nil {
			a.dir = p.lowers[i]
		}
	}
	if c.w.shared[name] == nil {
		s.mounts, s.dir = text, p.own
	}
	if really {
		c.reallyMount(name, mounts, below, bad)
	}
}

func (c *client) checkOwn(p place, s *snap, bad func(string, ...interface{})) {
	if !isDir(filepath.Join(p.own, "fs")) {
		bad("its fs directory is missing")
		return
	}
	if p.work && !isDir(filepath.Join(p.own, "work")) {
		bad("its work directory is missing")
	}
	checkMarks(filepath.Join(p.own, "fs"), s.marks, bad)
}

func checkMarks(dir string, marks []string, bad func(string, ...interface{})) {
	if !isDir(dir) {
		bad("directory %s is missing", dir)
		return
	}
	for _, mark := range marks {
		got, err := os.ReadFile(filepath.Join(dir, mark))
		if err != nil {
			bad("a file that was written is lost: %v", err)
		} else if !bytes.Equal(got, []byte(mark)) {
			bad("file %s/%s has other content: %q", dir, mark, got)
		}
	}
}

// reallyMount mounts as containerd does and reads every file of the snapshot and its ancestors.
func (c *client) reallyMount(name string, mounts []*types.Mount, below []string,
	bad func(string, ...interface{})) {
	target := filepath.Join(c.w.dir, "mnt-"+c.id)
	if err := os.MkdirAll(target, 0o700); err != nil {
		bad("%v", err)
		return
	}
	var list []mount.Mount
	for _, m := range mounts {
		list = append(list, mount.Mount{Type: m.Type, Source: m.Source, Options: m.Options})
	}
	if err := mount.All(list, target); err != nil {
		bad("cannot be mounted: %v", err)
		return
	}
	for _, ancestor := range append([]string{name}, below...) {
		checkMarks(target, c.lookup(ancestor).marks, bad)
	}
	if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
		bad("cannot be unmounted: %v", err)
	}
	c.w.stats.count("really mounted")
}

// unmountBelow detaches what a killed server or this test has left mounted below dir.
func unmountBelow(dir string) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	var points []string
	for _, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(points)))
	for _, point := range points {
		unix.Unmount(point, unix.MNT_DETACH)
	}
}
