package archive

import (
	"sort"
	"strconv"
	"strings"
)

// Header is one entry of a canonical tar: what a layer says of an object, without
// user and group names and with modification times in whole seconds.
type Header struct {
	// Name has no leading slash; a directory's ends with one.
	Name string
	// Type is the typeflag: '0' file, '1' hard link, '2' symlink, '3' char,
	// '4' block, '5' directory, '6' fifo.
	Type               byte
	Mode               uint32
	UID, GID           uint32
	Size               int64
	ModTime            int64 // seconds since 1970
	Linkname           string
	Xattrs             map[string]string
	DevMajor, DevMinor int64
}

const (
	blockSize   = 512
	maxOctal7   = 1<<21 - 1 // 7 octal digits
	maxOctal11  = 1<<33 - 1 // 11 octal digits
	xattrPrefix = "SCHILY.xattr."
)

// AppendHeader appends the encoded header of h to b: one ustar block, preceded by
// a PAX header only where ustar cannot say it. Equal headers give equal bytes in
// every version of this program; a change would change every DiffID.
func AppendHeader(b []byte, h *Header) []byte {
	prefix, name, pax := splitName(h.Name), h.Name, []paxRecord(nil)
	switch {
	case prefix < 0:
		pax = append(pax, paxRecord{"path", h.Name})
		name = clip(toASCII(h.Name), 100)
	case prefix > 0:
		name = h.Name[prefix+1:]
	}
	link := h.Linkname
	if len(link) > 100 || !isASCII(link) {
		pax = append(pax, paxRecord{"linkpath", link})
		link = clip(toASCII(link), 100)
	}
	number := func(key string, v int64, limit int64) int64 {
		if v >= 0 && v <= limit {
			return v
		}
		pax = append(pax, paxRecord{key, strconv.FormatInt(v, 10)})
		return 0
	}
	uid := number("uid", int64(h.UID), maxOctal7)
	gid := number("gid", int64(h.GID), maxOctal7)
	size := number("size", h.Size, maxOctal11)
	mtime := number("mtime", h.ModTime, maxOctal11)
	for k, v := range h.Xattrs {
		pax = append(pax, paxRecord{xattrPrefix + k, v})
	}
	if len(pax) > 0 {
		b = appendPAX(b, h.Name, pax)
	}
	u := ustar{typeflag: h.Type, name: name, mode: h.Mode & 0o7777, uid: uid, gid: gid, size: size, mtime: mtime, link: link}
	if prefix > 0 {
		u.prefix = h.Name[:prefix]
	}
	if h.Type == '3' || h.Type == '4' {
		u.major, u.minor = h.DevMajor, h.DevMinor
	}
	return u.append(b)
}

// Padding returns how many zero bytes follow size bytes of content.
func Padding(size int64) int64 { return -size & (blockSize - 1) }

type paxRecord struct{ key, value string }

func appendPAX(b []byte, name string, recs []paxRecord) []byte {
	sort.Slice(recs, func(i, j int) bool { return recs[i].key < recs[j].key })
	var data []byte
	for _, r := range recs {
		data = appendRecord(data, r)
	}
	dir, file := "", strings.TrimSuffix(name, "/")
	if i := strings.LastIndexByte(file, '/'); i >= 0 {
		dir, file = file[:i+1], file[i+1:]
	}
	u := ustar{typeflag: 'x', name: clip(toASCII(dir+"PaxHeaders.0/"+file), 100), size: int64(len(data))}
	b = u.append(b)
	b = append(b, data...)
	return append(b, make([]byte, Padding(int64(len(data))))...)
}

// appendRecord appends "LENGTH key=value\n", where LENGTH counts itself too.
func appendRecord(b []byte, r paxRecord) []byte {
	n := len(r.key) + len(r.value) + 3
	size := n + len(strconv.Itoa(n))
	if len(strconv.Itoa(size)) != len(strconv.Itoa(n)) {
		size = n + len(strconv.Itoa(size))
	}
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(b, ' ')
	b = append(b, r.key...)
	b = append(b, '=')
	b = append(b, r.value...)
	return append(b, '\n')
}

type ustar struct {
	typeflag              byte
	name, prefix, link    string
	mode                  uint32
	uid, gid, size, mtime int64
	major, minor          int64
}

func (u *ustar) append(b []byte) []byte {
	var blk [blockSize]byte
	copy(blk[0:100], u.name)
	octal(blk[100:108], int64(u.mode))
	octal(blk[108:116], u.uid)
	octal(blk[116:124], u.gid)
	octal(blk[124:136], u.size)
	octal(blk[136:148], u.mtime)
	copy(blk[148:156], "        ")
	blk[156] = u.typeflag
	copy(blk[157:257], u.link)
	copy(blk[257:265], "ustar\x0000")
	octal(blk[329:337], u.major)
	octal(blk[337:345], u.minor)
	copy(blk[345:500], u.prefix)
	var sum int64
	for _, c := range blk {
		sum += int64(c)
	}
	octal(blk[148:155], sum)
	blk[155] = ' '
	return append(b, blk[:]...)
}

// octal fills a field with zero-padded octal digits and a final NUL.
func octal(field []byte, v int64) {
	for i := len(field) - 2; i >= 0; i-- {
		field[i] = '0' + byte(v&7)
		v >>= 3
	}
	field[len(field)-1] = 0
}

// splitName returns where a name must be cut into ustar's prefix and name: 0 if
// it fits without, -1 if it does not fit at all.
func splitName(name string) int {
	if !isASCII(name) {
		return -1
	}
	if len(name) <= 100 {
		return 0
	}
	i := strings.LastIndexByte(name[:min(len(name)-1, 156)], '/')
	if i <= 0 || len(name)-i-1 > 100 || len(name)-i-1 == 0 {
		return -1
	}
	return i
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 || s[i] == 0 {
			return false
		}
	}
	return true
}

func toASCII(s string) string {
	if isASCII(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] < 0x80 && s[i] != 0 {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// clip shortens a stand-in name; a name that is cut must not look like a
// directory's to readers that know no PAX.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.TrimRight(s[:n], "/")
}
