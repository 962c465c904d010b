// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc64"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

const (
	chunkMax   = 128 << 10
	zerosMin   = 1024
	skippable  = 0x184d2a50
	annotation = "io.github.containers.zstd-chunked."
)

// entry is one of the index ("TOC").
type entry struct {
	Type        string            `json:"type"`
	Name        string            `json:"name"`
	LinkName    string            `json:"linkName,omitempty"`
	Mode        int64             `json:"mode,omitempty"`
	Size        int64             `json:"size,omitempty"`
	UID         int               `json:"uid,omitempty"`
	GID         int               `json:"gid,omitempty"`
	ModTime     string            `json:"modtime,omitempty"`
	DevMajor    int64             `json:"devMajor,omitempty"`
	DevMinor    int64             `json:"devMinor,omitempty"`
	Xattrs      map[string]string `json:"xattrs,omitempty"`
	Digest      string            `json:"digest,omitempty"`
	Offset      int64             `json:"offset,omitempty"`
	EndOffset   int64             `json:"endOffset,omitempty"`
	ChunkSize   int64             `json:"chunkSize,omitempty"`
	ChunkOffset int64             `json:"chunkOffset,omitempty"`
	ChunkDigest string            `json:"chunkDigest,omitempty"`
	ChunkType   string            `json:"chunkType,omitempty"`
}

// segment is a line of the tar-split part: type 1 a file's contents, 2 the tar's other bytes.
type segment struct {
	Type     int     `json:"type"`
	Name     string  `json:"name,omitempty"`
	NameRaw  []byte  `json:"name_raw,omitempty"`
	Size     int64   `json:"size,omitempty"`
	Payload  *string `json:"payload"`
	Position int     `json:"position"`
}

type writer struct {
	blob     bytes.Buffer
	encoder  *zstd.Encoder
	entries  []entry
	split    bytes.Buffer
	segments int
}

func newWriter() (*writer, error) {
	encoder, err := zstd.NewWriter(nil)
	return &writer{encoder: encoder}, err
}

// frame appends data as a frame of its own; nothing for no data.
func (w *writer) frame(data []byte) {
	w.blob.Write(w.encoder.EncodeAll(data, nil))
}

// skip appends a frame that decoders ignore, and says where its body is.
func (w *writer) skip(body []byte) (offset int64) {
	var header [8]byte
	binary.LittleEndian.PutUint32(header[:], skippable)
	binary.LittleEndian.PutUint32(header[4:], uint32(len(body)))
	w.blob.Write(header[:])
	offset = int64(w.blob.Len())
	w.blob.Write(body)
	return offset
}

func (w *writer) addSegment(s segment, payload []byte) error {
	if payload != nil {
		text := base64.StdEncoding.EncodeToString(payload)
		s.Payload = &text
	}
	s.Position = w.segments
	w.segments++
	line, err := json.Marshal(s)
	w.split.Write(append(line, '\n'))
	return err
}

// raw appends what lies between two files' contents: padding and headers.
func (w *writer) raw(data []byte) error {
	w.frame(data)
	return w.addSegment(segment{Type: 2}, append([]byte{}, data...))
}

// addTar relies on tar.Reader reading no further than it must.
func (w *writer) addTar(stream io.Reader) error {
	var seen bytes.Buffer
	r := tar.NewReader(io.TeeReader(stream, &seen))
	for {
		header, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := w.raw(seen.Bytes()); err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		seen.Reset()
		if err := w.addFile(header, data); err != nil {
			return fmt.Errorf("%q: %w", header.Name, err)
		}
	}
	if _, err := io.Copy(&seen, stream); err != nil {
		return err
	}
	return w.raw(seen.Bytes())
}

func (w *writer) addFile(h *tar.Header, data []byte) error {
	s := segment{Type: 1, Name: h.Name, Size: int64(len(data))}
	if !utf8.ValidString(h.Name) {
		s.Name, s.NameRaw = "", []byte(h.Name)
	}
	var payload []byte
	if len(data) > 0 {
		payload = binary.BigEndian.AppendUint64(nil, crc64.Checksum(data, crc64.MakeTable(crc64.ISO)))
	}
	if err := w.addSegment(s, payload); err != nil {
		return err
	}
	e, err := describe(h)
	if err != nil || len(data) == 0 {
		w.entries = append(w.entries, e)
		return err
	}
	e.Digest = sha256sum(data).String()
	chunks := w.addChunks(h.Name, data)
	e.Offset, e.EndOffset = chunks[0].Offset, int64(w.blob.Len())
	if len(chunks) > 1 {
		e.ChunkSize, e.ChunkDigest, e.ChunkType = chunks[0].ChunkSize, chunks[0].ChunkDigest, chunks[0].ChunkType
	}
	w.entries = append(append(w.entries, e), chunks[1:]...)
	return nil
}

func describe(h *tar.Header) (entry, error) {
	types := map[byte]string{tar.TypeReg: "reg", tar.TypeLink: "hardlink", tar.TypeSymlink: "symlink",
		tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeDir: "dir", tar.TypeFifo: "fifo"}
	e := entry{Type: types[h.Typeflag], Name: h.Name, LinkName: h.Linkname, Mode: h.Mode, Size: h.Size,
		UID: h.Uid, GID: h.Gid, ModTime: h.ModTime.Format(time.RFC3339Nano), DevMajor: h.Devmajor, DevMinor: h.Devminor}
	if e.Type == "" {
		return e, fmt.Errorf("unknown type %q", h.Typeflag)
	}
	for key, value := range h.PAXRecords {
		if name := strings.TrimPrefix(key, "SCHILY.xattr."); name != key {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[name] = base64.StdEncoding.EncodeToString([]byte(value))
		}
	}
	return e, nil
}

func (w *writer) addChunks(name string, data []byte) (chunks []entry) {
	for at := 0; at < len(data); {
		n, kind := nextChunk(data[at:])
		chunk := data[at : at+n]
		chunks = append(chunks, entry{Type: "chunk", Name: name, Offset: int64(w.blob.Len()), ChunkSize: int64(n),
			ChunkOffset: int64(at), ChunkDigest: sha256sum(chunk).String(), ChunkType: kind})
		w.frame(chunk)
		at += n
	}
	return chunks
}

func zeros(data []byte) int {
	for i, b := range data {
		if b != 0 {
			return i
		}
	}
	return len(data)
}

// nextChunk: a run of zeros as long as it is, or data up to the next such run.
func nextChunk(data []byte) (n int, kind string) {
	if n := zeros(data); n >= zerosMin {
		return n, "zeros"
	}
	for n < len(data) && n < chunkMax {
		z := zeros(data[n:])
		if z >= zerosMin {
			break
		}
		n += z + 1
	}
	if n > len(data) {
		n = len(data)
	}
	return n, ""
}

func (w *writer) finish() ([]byte, map[string]string, error) {
	split := w.encoder.EncodeAll(w.split.Bytes(), nil)
	toc, err := json.Marshal(map[string]interface{}{"version": 1, "entries": w.entries,
		"tarSplitDigest": sha256sum(split).String()})
	if err != nil {
		return nil, nil, err
	}
	index := w.encoder.EncodeAll(toc, nil)
	indexAt := w.skip(index)
	splitAt := w.skip(split)
	var footer []byte
	for _, n := range []int64{indexAt, int64(len(index)), int64(len(toc)), 1,
		splitAt, int64(len(split)), int64(w.split.Len())} {
		footer = binary.LittleEndian.AppendUint64(footer, uint64(n))
	}
	w.skip(append(footer, "GNUlInUx"...))
	return w.blob.Bytes(), map[string]string{
		annotation + "manifest-checksum": sha256sum(index).String(),
		annotation + "manifest-position": fmt.Sprintf("%d:%d:%d:1", indexAt, len(index), len(toc)),
		annotation + "tarsplit-position": fmt.Sprintf("%d:%d:%d", splitAt, len(split), w.split.Len()),
	}, nil
}
