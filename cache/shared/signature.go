package shared

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"layered.build/builder/cache"
	"layered.build/builder/cache/shared/sign"
)

// signedPrefix keeps what is signed apart from all else that the key may sign.
const signedPrefix = "builder-cache-signature 1\n"

// signature is one signature of several entries, which are named by the hashes of what was
// signed of them. See docs/FORMAT.md.
type signature struct {
	// Key is the name of the key, "" if the signer did not know it. It is for people.
	Key       string `json:",omitempty"`
	Leaves    []byte // hashes, one after the other
	Signature []byte

	once sync.Once
	ok   bool // guarded by once: one of the scope's keys made it
}

// signed says which signature holds for an entry.
type signed struct{ By, Leaf int }

// mark says who signed an entry of an index.
type mark struct {
	// Signed is nil if nobody did.
	Signed *signed `json:",omitempty"`

	sig *signature // what Signed.By is the number of
}

// find finds the signature in an index.
func (m *mark) find(x *index) error {
	if m.Signed == nil {
		return nil
	}
	if n := m.Signed.By; n >= 0 && n < len(x.Signatures) && x.Signatures[n] != nil {
		m.sig = x.Signatures[n]
		return nil
	}
	return fmt.Errorf("%w: a signature", errIndex)
}

// says reports whether what the mark stands for is what was signed.
func (m mark) says(l leaf) bool {
	if m.sig == nil {
		return false
	}
	was, ok := m.sig.at(m.Signed.Leaf)
	return ok && was == l
}

// recordStatement is all that a reader believes of a record.
type recordStatement struct {
	Scope           string
	Key, Definition cache.Key
	Created         int64
	Duration        int64
	Outputs         [][]layer
	Findings        []cache.Finding `json:",omitempty"`
}

// mountStatement is the same of a content of a cache mount.
type mountStatement struct {
	Scope string
	Mount Mount
}

type leaf [sha256.Size]byte

// leafOf is the hash of what is signed of a record. It holds the scope and the key, so that
// an entry counts only where it was signed for.
func leafOf(scope string, r *record, outputs [][]layer) (leaf, error) {
	s := recordStatement{
		Scope: scope, Key: r.Key, Definition: r.Definition, Created: r.Created, Duration: r.Duration,
		Outputs: make([][]layer, len(outputs)), Findings: r.Findings,
	}
	for i, ls := range outputs {
		s.Outputs[i] = append([]layer{}, ls...)
		for j := range s.Outputs[i] {
			if l := &s.Outputs[i][j]; l.Image {
				l.Blob = nil
			}
		}
	}
	return hashOf("builder-cache-entry 1\n", s)
}

// leafOfMount is leafOf of a content of a cache mount.
func leafOfMount(scope string, m *Mount) (leaf, error) {
	s := mountStatement{scope, *m}
	s.Mount.Used, s.Mount.mark = 0, mark{}
	return hashOf("builder-cache-mount 1\n", s)
}

func hashOf(prefix string, statement any) (leaf, error) {
	text, err := json.Marshal(statement)
	if err != nil {
		return leaf{}, fmt.Errorf("entry to sign: %w", err)
	}
	return sha256.Sum256(append([]byte(prefix), text...)), nil
}

// at is the n-th of the hashes.
func (s *signature) at(n int) (l leaf, ok bool) {
	if n < 0 || n >= len(s.Leaves)/len(l) {
		return l, false
	}
	copy(l[:], s.Leaves[n*len(l):])
	return l, true
}

// message is what is signed.
func (s *signature) message() []byte {
	sum := sha256.Sum256(s.Leaves)
	return append([]byte(signedPrefix), hex.EncodeToString(sum[:])+"\n"...)
}

// id tells signatures apart.
func (s *signature) id() string { return string(s.message()) + string(s.Signature) }

// Why an entry is not believed.
var (
	errUnsigned = errors.New("not signed")
	errChanged  = errors.New("other than what was signed: it was changed, or signed for another scope or key")
	errForged   = errors.New("falsely signed")
)

// verify returns why an entry is not to be believed, nil if one of the keys signed it.
func (m mark) verify(l leaf, keys sign.Keys) error {
	if m.sig == nil {
		return errUnsigned
	}
	if !m.says(l) {
		return errChanged
	}
	m.sig.once.Do(func() { m.sig.ok = keys.Verify(m.sig.message(), m.sig.Signature) })
	switch {
	case m.sig.ok:
		return nil
	case m.sig.Key != "" && !keys.Has(m.sig.Key):
		return fmt.Errorf("signed with %.40q, which is none of verify-key", m.sig.Key)
	}
	return errForged
}

// verify reports whether a record may be used: that one may not is told.
func (i *importer) verify(sc *loadedScope, r *record) bool {
	if len(i.Verify) == 0 {
		return true
	}
	l, err := leafOf(sc.name, r, sc.index.outputs(r))
	if err == nil {
		err = r.verify(l, i.Verify)
	}
	return i.believes(sc, "entry "+string(r.Key), err)
}

// verifyMount is verify of a content of a cache mount.
func (i *importer) verifyMount(sc *loadedScope, m *Mount) bool {
	if len(i.Verify) == 0 {
		return true
	}
	l, err := leafOfMount(sc.name, m)
	if err == nil {
		err = m.verify(l, i.Verify)
	}
	return i.believes(sc, fmt.Sprintf("cache mount %.100q", m.ID), err)
}

// believes reports whether there is no error. One is told once for all of a scope that fail
// alike.
func (i *importer) believes(sc *loadedScope, what string, err error) bool {
	if err == nil {
		return true
	}
	where := i.of(sc.name)
	i.session.tellOnce(fmt.Sprintf("cache %s: %s is %v: it is not used, nor are others like it", where, what, err), "entries "+where+err.Error())
	return false
}
