// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sort"
	"strings"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"google.golang.org/grpc/codes"
)

const (
	kindView      = snapshotsapi.KindView
	kindActive    = snapshotsapi.KindActive
	kindCommitted = snapshotsapi.KindCommitted

	ownerLabel = "chaos.test/owner"
	refLabel   = "containerd.io/snapshot.ref"
)

// snap is one snapshot as the acknowledged answers describe it. It is replaced, not changed, except
// for what is only learnt later (dir, mounts, the times).
type snap struct {
	kind    snapshotsapi.Kind
	parent  string
	labels  map[string]string
	marks   []string // files that we wrote into its own directory
	dir     string   // ROOT/snapshots/<id>; "" = not known
	mounts  string   // what Prepare, View or Mounts answered; "" = not known
	created time.Time
	updated time.Time // both zero = not known
	touched bool      // there was an Update, so the two times may differ
}

func (s *snap) copy() *snap {
	t := *s
	t.labels = copyLabels(s.labels)
	t.marks = append([]string(nil), s.marks...)
	return &t
}

func (s *snap) String() string {
	if s == nil {
		return "absent"
	}
	return fmt.Sprintf("%s parent=%q labels=%s", s.kind, s.parent, labelText(s.labels))
}

func infoText(i *snapshotsapi.Info) string {
	if i == nil {
		return "absent"
	}
	return fmt.Sprintf("%s parent=%q labels=%s created=%s updated=%s", i.Kind, i.Parent,
		labelText(i.Labels), i.CreatedAt.Format(time.RFC3339Nano), i.UpdatedAt.Format(time.RFC3339Nano))
}

func copyLabels(from map[string]string) map[string]string {
	to := make(map[string]string, len(from))
	for k, v := range from {
		if v != "" { // an empty value is not stored
			to[k] = v
		}
	}
	return to
}

func labelText(labels map[string]string) string {
	var parts []string
	for k, v := range labels {
		if len(v) > 24 {
			v = fmt.Sprintf("%s…(%d)", v[:24], len(v))
		}
		parts = append(parts, k+"="+v)
	}
	sort.Strings(parts)
	return "{" + strings.Join(parts, " ") + "}"
}

func sameLabels(a, b map[string]string) bool {
	a, b = copyLabels(a), copyLabels(b)
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// differs says how what the server tells about a snapshot contradicts the model; "" = not at all.
func differs(s *snap, i *snapshotsapi.Info) string {
	switch {
	case s == nil && i == nil:
		return ""
	case s == nil:
		return "it must not exist"
	case i == nil:
		return "it must exist"
	case s.kind != i.Kind:
		return "wrong kind"
	case s.parent != i.Parent:
		return "wrong parent"
	case !sameLabels(s.labels, i.Labels):
		return "wrong labels"
	case i.CreatedAt.Unix() <= 0 || i.UpdatedAt.Unix() <= 0:
		return "a time is missing"
	case !s.created.IsZero() && !s.created.Equal(i.CreatedAt):
		return "created_at was " + s.created.Format(time.RFC3339Nano)
	case !s.updated.IsZero() && !s.updated.Equal(i.UpdatedAt):
		return "updated_at was " + s.updated.Format(time.RFC3339Nano)
	case !s.touched && !i.CreatedAt.Equal(i.UpdatedAt):
		return "the times differ although there was no Update"
	case i.UpdatedAt.Before(i.CreatedAt):
		return "updated before it was created"
	}
	return ""
}

// learn takes over what the server says and the model could not know.
func (s *snap) learn(i *snapshotsapi.Info) {
	if s != nil && i != nil {
		s.created, s.updated = i.CreatedAt, i.UpdatedAt
	}
}

// answers is the set of codes that fit the model.
type answers []codes.Code

func (a answers) has(c codes.Code) bool {
	for _, x := range a {
		if x == c {
			return true
		}
	}
	return false
}

func (c *client) lookup(name string) *snap {
	if s, ok := c.w.shared[name]; ok {
		return s
	}
	return c.model[name]
}

// hasChild: only this client uses its names as parents. Shared parents always have children.
func (c *client) hasChild(name string) bool {
	if _, ok := c.w.shared[name]; ok {
		return true
	}
	for _, s := range c.model {
		if s.parent == name {
			return true
		}
	}
	return false
}

func (c *client) wantCreate(key, parent string) answers {
	if parent != "" {
		p := c.lookup(parent)
		if p == nil {
			return answers{codes.NotFound}
		}
		if p.kind != kindCommitted {
			return answers{codes.InvalidArgument}
		}
	}
	if c.lookup(key) != nil {
		return answers{codes.AlreadyExists}
	}
	return answers{codes.OK}
}

func (c *client) wantCommit(name, key string) answers {
	k := c.lookup(key)
	switch {
	case c.lookup(name) != nil && k == nil:
		// containerd's overlayfs looks for the key first, its store for the name.
		return answers{codes.AlreadyExists, codes.NotFound}
	case c.lookup(name) != nil:
		return answers{codes.AlreadyExists}
	case k == nil:
		return answers{codes.NotFound}
	case k.kind != kindActive:
		return answers{codes.FailedPrecondition}
	}
	return answers{codes.OK}
}

func (c *client) wantRemove(key string) answers {
	switch {
	case c.lookup(key) == nil:
		return answers{codes.NotFound}
	case c.hasChild(key):
		return answers{codes.FailedPrecondition}
	}
	return answers{codes.OK}
}

func (c *client) wantMounts(key string) answers {
	s := c.lookup(key)
	switch {
	case s == nil:
		return answers{codes.NotFound}
	case s.kind == kindCommitted:
		return answers{codes.FailedPrecondition}
	}
	return answers{codes.OK}
}

func (c *client) wantFound(key string) answers {
	if c.lookup(key) == nil {
		return answers{codes.NotFound}
	}
	return answers{codes.OK}
}

// wantBadMask is for an Update of a field that cannot be changed.
func (c *client) wantBadMask(key string) answers {
	if c.lookup(key) == nil {
		return answers{codes.InvalidArgument, codes.NotFound}
	}
	return answers{codes.InvalidArgument}
}

// chain returns the snapshots below parent, nearest first.
func (c *client) chain(parent string) (names []string) {
	for parent != "" {
		names = append(names, parent)
		parent = c.lookup(parent).parent
	}
	return names
}

func (a answers) hasOK() bool { return a.has(codes.OK) }
