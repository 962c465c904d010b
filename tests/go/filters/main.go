// SPDX-License-Identifier: Apache-2.0

// filters gen SEED N prints N random filter lists and snapshots, each with what containerd's own code says:
//
//	FILTERS filter… NAME PARENT KIND LABELS key value… PARSES MATCHES
//
// FILTERS and LABELS are counts, PARSES and MATCHES are 0 or 1, the rest is base64 ("-" if empty).
// tests/system/filter_oracle.c reads it.
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode"

	"github.com/containerd/containerd/filters"
	"github.com/sirupsen/logrus"
)

type subject struct {
	name, parent, kind string
	labels             map[string]string
}

// Field does what containerd's adaptor of snapshots does (snapshots/storage/bolt.go, adaptSnapshot).
func (s *subject) Field(path []string) (string, bool) {
	switch path[0] {
	case "kind":
		return s.kind, true
	case "name":
		return s.name, true
	case "parent":
		return s.parent, true
	case "labels":
		v, ok := s.labels[strings.Join(path[1:], ".")]
		return v, ok
	}
	return "", false
}

var rnd *rand.Rand

func pick(from ...string) string { return from[rnd.Intn(len(from))] }
func chance(percent int) bool    { return rnd.Intn(100) < percent }

// several joins up to n pieces.
func several(n int, piece func() string) string {
	var b strings.Builder
	for i := rnd.Intn(n + 1); i > 0; i-- {
		b.WriteString(piece())
	}
	return b.String()
}

// word is short and made of few letters, so that things match.
func word() string {
	if chance(30) {
		return several(4, func() string { return pick("a", "b") })
	}
	return several(5, func() string {
		return pick("a", "b", "c", "ab", "k", "s", "K", "S", "1", "-", "_", "/", ":", "=", ".", "é", "É", "ſ", "K", "\n",
			" ", "Ω", "ω", "日", "\t", "\v", "\"", "\\", "x", "😀", "\u00a0", "a", "b", "sha256:ab")
	})
}

func newSubject() *subject {
	s := &subject{name: word(), parent: word(), kind: pick("active", "view", "committed"), labels: map[string]string{}}
	for i := rnd.Intn(4); i > 0; i-- {
		s.labels[pick("a", "b", "a.b", "containerd.io/snapshot.ref", "", "é", "x y", "azAZ09_", "z")] = word()
	}
	return s
}

func space() string {
	if chance(90) {
		return ""
	}
	return pick(" ", "  ", "\t", "\n", "\r", "\v", "\f", "\u0085", "\u00a0", "\u2003", "\u3000", "\u200b", "\u1680", "\u180e",
		"\u2000", "\u200a", "\u2028", "\u2029", "\u202f", "\u2030", "\u205f", "\u1fff", "\x1c", "\x08", "\x0e", "\ufeff")
}

func escape(quote string) string {
	return pick(`\a`, `\b`, `\f`, `\n`, `\r`, `\t`, `\v`, `\\`, `\'`, `\"`, `\/`, `\|`, `\`+quote, `\x61`, `\xff`, `\x00`, `\x6`,
		`\141`, `\377`, `\400`, `\8`, `\14`, `\u0061`, `\u00e9`, `\ud800`, `\udfff`, `\ufffd`, `\U0001F600`, `\U00110000`,
		`\U80000061`, `\UFFFFFFFF`, `\U7fffffff`, `\u12`, `\q`, `\ `, `\`)
}

func quoted(text, quote string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case chance(3):
			b.WriteString(escape(quote))
		case string(r) == quote || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(pick(`\n`, `\x0a`, `\012`, `\u000a`, `\n`))
		case chance(2):
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			b.WriteRune(r)
		}
	}
	return quote + b.String() + quote
}

func field() string {
	f := pick("kind", "name", "parent", "name", "labels.a", "labels.b", "labels.a.b", "labels", `labels.""`,
		`labels."containerd.io/snapshot.ref"`, `labels."a.b"`, `labels."é"`, `"labels".a`, "other", "_1", "kind.x", "other.b", "labels.azAZ09_", "labels.z", "Z.z9")
	if chance(10) {
		f = strings.Replace(f, ".", "."+space(), 1)
	}
	if chance(4) {
		f += "." + quoted(word(), pick(`"`, `"`, `/`, `'`))
	}
	return space() + f
}

func bare() string {
	return several(6, func() string {
		return pick("a", "b", "c", "1", "-", "/", ":", "=", "~", "!", ".", "|", "é", "日", "Ω", "😀", "\u0301", "½", "€", "\\", "'", "`",
			"\u00ad", "\u200b", "\ue000", "\u0378", "\u0080", "\x01", "\x7f", "\u00a0", "\u2028", "\ufffd", "\U000f0000", "\xff", "\x00",
			"ª", "‿", "\ufeff", "\U000e0001", "\ufdd0", "^", "+", "$", "(", "{", "#", "a", "b", "c", "ab", "sha256:ab")
	})
}

func class() string {
	return "[" + pick("", "", "^") + pick("", "", "", "]", "-") + several(3, func() string {
		return pick("a", "b", "a-c", "A-Z", "k", "s", `\d`, `\D`, `\s`, `\S`, `\w`, `\W`, "[:alpha:]", "[:^alpha:]", "[:upper:]",
			"[:^lower:]", "[:word:]", "[:^space:]", "[:space:]", "[:punct:]", "[:^xdigit:]", "[:bogus:]", "[:", "[", "[.a.", `\pL`, `\P{Lu}`,
			`\x61-\x63`, `\x{1F600}`, "é", "z-a", `\b`, `\]`, `\-`, "-", "^", "a-", `\q`, `\141`, "[:ascii:]", "[:^ascii:]", "[:cntrl:]",
			"[:print:]", "[:graph:]", "[:blank:]", "[:digit:]", "[:alnum:]", `\PC`, `\pC`, "ſ", "K", ",", "\n", "\\n", "&&", "--")
	}) + pick("]", "]", "]", "]", "]", "]", "]", "]", "", "a]")
}

func atom(depth int) string {
	switch n := rnd.Intn(100); {
	case n < 25:
		return pick("a", "b")
	case n < 50:
		return pick("a", "b", "c", "ab", "k", "s", "K", "1", "-", "/", "é", "Ω", "日", ":", "_", "x", "\n", " ", "😀")
	case n < 60:
		return pick(".", ".", "^", "$", `\A`, `\z`, `\b`, `\B`)
	case n < 68:
		return pick(`\d`, `\D`, `\s`, `\S`, `\w`, `\W`, `\pL`, `\PL`, `\p{Lu}`, `\p{^Lu}`, `\P{Ll}`, `\p{Greek}`, `\P{Han}`, `\p{Any}`,
			`\P{Any}`, `\pC`, `\PC`, `\p{Bogus}`, `\p{L`, `\pN`, `\p{Zs}`, `\pX`, `\p`)
	case n < 76:
		return class()
	case n < 80:
		return pick(`\.`, `\x61`, `\x{e9}`, `\x{110000}`, `\x{d800}`, `\x{}`, `\x6`, `\n`, `\t`, `\v`, `\f`, `\a`, `\r`, `\e`, `\0`, `\07`,
			`\141`, `\1`, `\12`, `\8`, `\_`, `\/`, `\-`, `\ `, `\"`, `\é`, `\C`, `\Z`, `\G`, `\h`, `\R`, `\X`, `\N`, `\K`, `\cA`, `\k<n>`, `\g1`)
	case n < 82:
		return `\Q` + several(3, func() string { return pick("a", "b", ".", "*", "(", "\\", "[", "é", "+") }) + pick(`\E`, `\E`, "")
	case n < 84:
		return pick("(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)", "(?#x)", "(?R)", "(?1)", "(?P>n)", "(?P=n)", "(?|a)", "(?C1)", "(*F)",
			"(*ACCEPT)", "(?(1)a)", "(?^i)", "(?x)", "(?n)", "(?J)", "(?xx:a)", "(?&n)")
	case n < 88:
		return pick("(?i)", "(?s)", "(?m)", "(?U)", "(?-i)", "(?im-s)", "(?-)", "(?)", "(?i-)", "(?--i)", "(?q)", "(?ii)", "(?-U)", "(?")
	case depth < 4:
		return pick("(", "(", "(?:", "(?i:", "(?P<n>", "(?P<n1>", "(?s-i:", "(?m:", "(?U:", "(?P<>", "(?P<a b>", "(?P<1>", "(?i-m:", "(?:") +
			expression(depth+1) + ")"
	}
	return pick("a", "b")
}

func expression(depth int) string {
	return several(4, func() string {
		s := atom(depth)
		if chance(25) {
			s += pick("*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{0}", "{0,}", "{1,}?", "{,2}", "{a}", "{", "{2,1}", "{1001}",
				"{01}", "{0,1}", "{2", "{2,", "{99999999999}", "{1,99999999999}", "**", "*+", "++", "?+", "{2}{2}", "{2}*", "*{2}", "{2}+", "(?i)*",
				"{3}", "{1000}", `\Q\E*`, "}")
		}
		if chance(8) {
			s += "|"
		}
		return s
	})
}

func value(s *subject, matches bool) string {
	if matches && chance(95) {
		re := expression(0)
		switch {
		case chance(10):
			re = regexp.QuoteMeta(s.name)
		case chance(30): // the whole value: repetitions are counted
			re = pick("^(?:", "^(", `\A(?:`) + re + pick(")$", `)\z`)
		}
		return quoted(re, pick("/", "/", "|", `"`, "/", `'`))
	}
	text := pick(s.name, s.parent, s.kind, word(), s.labels["a"], s.labels["b"])
	switch {
	case chance(40):
		return quoted(text, pick(`"`, `"`, `"`, `"`, `"`, "/", "|", `'`))
	case chance(50):
		return text
	}
	return bare()
}

func selector(s *subject) string {
	f := field()
	if chance(10) {
		return f
	}
	op := pick("==", "==", "!=", "~=", "~=", "~=")
	if chance(3) {
		op = pick("=", "===", "!", "~", "=~", "!==", "= =", "==!")
	}
	return f + space() + op + space() + value(s, op == "~=")
}

func mutate(s string) string {
	junk := []string{"a", ",", ".", "=", "!", "~", `"`, "/", "|", `\`, " ", "(", ")", "[", "]", "{", "}", "*", "+", "?", "^", "$", "\x00",
		"\xff", "\xc3", "é", "\u0085", "-", ":", "1", "\n", "i", "P", "<"}
	for n := rnd.Intn(3) + 1; n > 0 && len(s) > 0; n-- {
		i := rnd.Intn(len(s))
		switch rnd.Intn(4) {
		case 0:
			s = s[:i] + s[i+1:]
		case 1:
			s = s[:i] + pick(junk...) + s[i:]
		case 2:
			s = s[:i] + pick(junk...) + s[i+1:]
		case 3:
			j := i + rnd.Intn(len(s)-i)
			s = s[:j] + s[i:j] + s[j:]
		}
	}
	return s
}

func filter(s *subject) string {
	if chance(3) {
		return pick("", " ", ",", ".", "name", "name,", ",name", "name.", "=", "==", `"`, `""`, `"name"==a`, "name ==a")
	}
	f := selector(s)
	for chance(15) {
		f += space() + "," + selector(s)
	}
	if chance(3) {
		f += space()
	}
	if chance(15) {
		f = mutate(f)
	}
	return f
}

var (
	namedByNET = regexp.MustCompile(`\(\?<`)
	foldFlag   = regexp.MustCompile(`\(\?[a-zA-Z]*i`)
	property   = regexp.MustCompile(`\\+[pP]\{?`)
	longEscape = regexp.MustCompile(`\\U[0-9A-F]{8}`)
	name       = regexp.MustCompile(`\\+[pP]\{\^?([A-Za-z_]+)\}`)
	manyCopies = regexp.MustCompile(`\)[^)]*\{1000\}`)
)

// plain undoes the escapes that quoted makes of characters that need none.
func plain(f string) string {
	return longEscape.ReplaceAllStringFunc(f, func(e string) string {
		r, err := strconv.ParseUint(e[2:], 16, 31)
		if err != nil {
			return e
		}
		return string(rune(r))
	})
}

// differs tells of what daemon/snap/filter.h declares to differ: what newer Go takes, folding of properties,
// PCRE2's lax names of scripts, and expressions that become too large.
func differs(f string) bool {
	if namedByNET.MatchString(f) || manyCopies.MatchString(f) || (foldFlag.MatchString(f) && property.MatchString(f)) {
		return true
	}
	for _, m := range name.FindAllStringSubmatch(f, -1) {
		if m[1] != "Any" && unicode.Categories[m[1]] == nil && unicode.Scripts[m[1]] == nil && m[1] != "Bogus" {
			return true
		}
	}
	return false
}

func encode(s string) string {
	if s == "" {
		return "-"
	}
	return base64.StdEncoding.EncodeToString([]byte(s))
}

func digit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func testCase() string {
	s := newSubject()
	var fs []string
	for n := []int{0, 1, 1, 1, 1, 1, 1, 1, 2, 3}[rnd.Intn(10)]; n > 0; n-- {
		f := filter(s)
		for differs(plain(f)) {
			f = filter(s)
		}
		fs = append(fs, f)
	}
	words := []string{strconv.Itoa(len(fs))}
	for _, f := range fs {
		words = append(words, encode(f))
	}
	words = append(words, encode(s.name), encode(s.parent), encode(s.kind), strconv.Itoa(len(s.labels)))
	var keys []string
	for k := range s.labels {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		words = append(words, encode(k), encode(s.labels[k]))
	}
	f, err := filters.ParseAll(fs...)
	words = append(words, digit(err == nil), digit(err == nil && f.Match(s)))
	return strings.Join(words, " ")
}

func main() {
	if len(os.Args) != 4 || os.Args[1] != "gen" {
		fmt.Fprintln(os.Stderr, "usage: filters gen SEED N")
		os.Exit(2)
	}
	seed, err1 := strconv.ParseInt(os.Args[2], 10, 64)
	n, err2 := strconv.Atoi(os.Args[3])
	if err1 != nil || err2 != nil {
		fmt.Fprintln(os.Stderr, "SEED and N are numbers")
		os.Exit(2)
	}
	logrus.SetOutput(io.Discard) // containerd logs expressions that do not compile
	rnd = rand.New(rand.NewSource(seed))
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for ; n > 0; n-- {
		fmt.Fprintln(out, testCase())
	}
}
