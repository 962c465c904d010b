// SPDX-License-Identifier: Apache-2.0

// treedump prints a directory tree, one line per path, sorted by bytes, so that two trees can be
// compared with cmp and diff:
//
//	"path" type mode uid gid size mtime rdev nlink ["target"] [link="first name"] [xattr...] [sha256]
//
// Directories have "-" for size and nlink: both depend on the file system below and not on the
// image. Names that are one inode show the first of them as link=. Extended attributes are
// name=hex, sorted; overlayfs' own are left out.
//
// With -since T (a UNIX time), an mtime between T and now is printed as "recent": that is what
// unpacking leaves on a directory which no layer describes. With -seconds, an mtime is rounded to
// whole seconds, as eStargz' index does; its files are compared with those of the tar inside.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type inode struct {
	dev, ino uint64
}

type dumper struct {
	root  string
	since int64
	until int64
	round bool
	first map[inode]string
	out   *bufio.Writer
}

func main() {
	since := flag.Int64("since", 0, "print an mtime between this UNIX time and now as \"recent\"")
	round := flag.Bool("seconds", false, "round an mtime to whole seconds")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: treedump [-since SECONDS] DIRECTORY")
		os.Exit(2)
	}
	d := dumper{
		root:  flag.Arg(0),
		since: *since,
		until: time.Now().Unix(),
		round: *round,
		first: make(map[inode]string),
		out:   bufio.NewWriterSize(os.Stdout, 1<<16),
	}
	err := d.walk(".")
	if err == nil {
		err = d.out.Flush()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "treedump:", err)
		os.Exit(1)
	}
}

// walk prints name, a path below the root, and everything below it. Sorting happens per
// directory with '/' taken as the lowest byte, which keeps a directory and its contents together.
func (d *dumper) walk(name string) error {
	isDir, err := d.print(name)
	if err != nil || !isDir {
		return err
	}
	dir, err := os.Open(d.root + "/" + name)
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return err
	}
	sort.Strings(names)
	for i, n := range names {
		if i > 0 && n == names[i-1] {
			return fmt.Errorf("%q is listed twice in %q", n, name)
		}
		child := n
		if name != "." {
			child = name + "/" + n
		}
		if err := d.walk(child); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) print(name string) (isDir bool, err error) {
	path := d.root + "/" + name
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return false, fmt.Errorf("lstat %q: %w", path, err)
	}
	format := st.Mode & unix.S_IFMT
	isDir = format == unix.S_IFDIR
	size, nlink := "-", "-"
	if !isDir {
		size, nlink = strconv.FormatInt(st.Size, 10), strconv.FormatUint(uint64(st.Nlink), 10)
	}
	fields := []string{
		strconv.QuoteToASCII(name),
		typeName(format),
		fmt.Sprintf("%04o", st.Mode&07777),
		strconv.FormatUint(uint64(st.Uid), 10),
		strconv.FormatUint(uint64(st.Gid), 10),
		size,
		d.timeName(st.Mtim),
		fmt.Sprintf("%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))),
		nlink,
	}
	if format == unix.S_IFLNK {
		target, err := os.Readlink(path)
		if err != nil {
			return false, err
		}
		fields = append(fields, strconv.QuoteToASCII(target))
	}
	if !isDir && st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino}
		if _, seen := d.first[id]; !seen {
			d.first[id] = name
		}
		fields = append(fields, "link="+strconv.QuoteToASCII(d.first[id]))
	}
	attrs, err := xattrs(path)
	if err != nil {
		return false, err
	}
	fields = append(fields, attrs...)
	if format == unix.S_IFREG {
		sum, err := digest(path, st.Size)
		if err != nil {
			return false, err
		}
		fields = append(fields, sum)
	}
	_, err = fmt.Fprintln(d.out, strings.Join(fields, " "))
	return isDir, err
}

func typeName(format uint32) string {
	switch format {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "dir"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFCHR:
		return "char"
	case unix.S_IFBLK:
		return "block"
	case unix.S_IFSOCK:
		return "socket"
	}
	return fmt.Sprintf("type-%o", format)
}

func (d *dumper) timeName(t unix.Timespec) string {
	if d.since != 0 && t.Sec >= d.since && t.Sec <= d.until {
		return "recent"
	}
	if d.round {
		t = unix.Timespec{Sec: t.Sec + (t.Nsec+5e8)/1e9}
	}
	return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec)
}

// xattrs reads the attributes of the path itself, never of what a symlink points to.
func xattrs(path string) ([]string, error) {
	list := make([]byte, 1<<16) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(path, list)
	if err == unix.ENOTSUP {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("llistxattr %q: %w", path, err)
	}
	var found []string
	value := make([]byte, 1<<16) // XATTR_SIZE_MAX
	for _, name := range strings.Split(string(list[:n]), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") ||
			strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("lgetxattr %q %s: %w", path, name, err)
		}
		found = append(found, strconv.QuoteToASCII(name)+"="+hex.EncodeToString(value[:n]))
	}
	sort.Strings(found)
	return found, nil
}

// digest reads the whole file and checks that there is as much of it as stat said.
func digest(path string, size int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return "", fmt.Errorf("read %q: %w", path, err)
	}
	if n != size {
		return "", fmt.Errorf("read %q: %d bytes, but its size is %d", path, n, size)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
