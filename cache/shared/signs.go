package shared

import (
	"bytes"
	"context"
	"fmt"

	"layered.build/builder/cache"
	"layered.build/builder/cache/shared/sign"
)

// signs makes the signatures of one export.
type signs struct {
	signer *sign.Signer // nil: nobody signs
	keys   sign.Keys    // those that the signer's is one of, as far as that is known
	made   map[leaf]mark
	mine   map[string]bool // which signatures the key made, by message and signature
}

// newSigns returns those of a signer. Of one whose key is with a program, keys are those that
// it may be one of.
func newSigns(s *sign.Signer, keys sign.Keys) *signs {
	if s != nil && s.Public() != nil {
		keys = sign.Keys{s.Public()}
	}
	return &signs{signer: s, keys: keys, made: map[leaf]mark{}, mine: map[string]bool{}}
}

// keysFor are the keys that readers of a place ask for, as far as the session knows: those of
// the same place if it is read, otherwise those of all.
func (s *Session) keysFor(place string) sign.Keys {
	var here, all sign.Keys
	for _, i := range s.sources {
		all = append(all, i.Verify...)
		if i.String() == place {
			here = append(here, i.Verify...)
		}
	}
	if len(here) > 0 {
		return here
	}
	return all
}

// entry is a record with its layers.
type entry struct {
	record
	outputs [][]layer
}

// unsigned is something to sign.
type unsigned struct {
	leaf leaf
	mark *mark // what it has, and gets
	was  mark  // what the index has
}

// holds reports whether a signature may stay: of who does not sign, any; otherwise one by
// the same key. One whose maker is not known is made anew: it may be forged.
func (s *signs) holds(m mark, l leaf) bool {
	if !m.says(l) {
		return false
	}
	if s.signer == nil {
		return true
	}
	id := m.sig.id()
	mine, ok := s.mine[id]
	if !ok {
		mine = s.keys.Verify(m.sig.message(), m.sig.Signature)
		s.mine[id] = mine
	}
	return mine
}

// satisfied reports whether a record of an index needs no signature of this export.
func (s *signs) satisfied(sc *loadedScope, r *record) bool {
	if s.signer == nil {
		return true
	}
	l, err := leafOf(sc.name, r, sc.index.outputs(r))
	return err == nil && s.holds(r.mark, l)
}

// satisfiedMount is satisfied of a content of a cache mount.
func (s *signs) satisfiedMount(sc *loadedScope, m *Mount) bool {
	if s.signer == nil {
		return true
	}
	l, err := leafOfMount(sc.name, m)
	return err == nil && s.holds(m.mark, l)
}

// signAll has records and mounts signed. Old is the index that they are put into.
func (s *signs) signAll(ctx context.Context, scope string, entries []*entry, mounts []*Mount, old *loadedScope) error {
	var all []unsigned
	for _, e := range entries {
		l, err := leafOf(scope, &e.record, e.outputs)
		if err != nil {
			return err
		}
		u := unsigned{leaf: l, mark: &e.mark}
		if was := old.records[e.Key]; was != nil {
			u.was = was.mark
		}
		all = append(all, u)
	}
	for _, m := range mounts {
		l, err := leafOfMount(scope, m)
		if err != nil {
			return err
		}
		u := unsigned{leaf: l, mark: &m.mark}
		for _, was := range old.index.Mounts {
			if sameMount(was, m) {
				u.was = was.mark
			}
		}
		all = append(all, u)
	}
	return s.sign(ctx, all)
}

// sign has all that needs it signed, by one signature.
func (s *signs) sign(ctx context.Context, all []unsigned) error {
	fresh, leaves := &signature{}, bytes.Buffer{}
	for _, u := range all {
		switch {
		case s.holds(*u.mark, u.leaf):
			continue
		case s.holds(u.was, u.leaf):
			*u.mark = u.was
			continue
		case s.signer == nil:
			*u.mark = mark{}
			continue
		}
		m, ok := s.made[u.leaf]
		if !ok {
			m = mark{&signed{Leaf: leaves.Len() / len(u.leaf)}, fresh}
			leaves.Write(u.leaf[:])
			s.made[u.leaf] = m
		}
		*u.mark = m
	}
	if leaves.Len() == 0 {
		return nil
	}
	fresh.Key, fresh.Leaves = sign.Name(s.signer.Public()), leaves.Bytes()
	var err error
	if fresh.Signature, err = s.signer.Sign(ctx, fresh.message()); err != nil {
		clear(s.made)
		return fmt.Errorf("sign entries: %w", err)
	}
	s.mine[fresh.id()] = true
	return nil
}

// keeps reports whether a record with the same layers is left as it is: who does not sign
// leaves what others have signed.
func (t *exporter) keeps(r *record) bool { return r.sig != nil && t.Signer == nil }

// same reports whether a record of an index leads to the layers that were sent. It does not
// if a list of their entries cannot be used and another was sent; what others have signed
// stays for all that.
func (t *exporter) same(sc *loadedScope, r *record, outputs [][]layer) bool {
	was := sc.index.outputs(r)
	if !sameOutputs(was, outputs) {
		return false
	}
	for o, ls := range was {
		for i, l := range ls {
			if !t.keeps(r) && l.Entries != nil && l.Entries.Digest != outputs[o][i].Entries.Digest && t.session.isSpoiled(t.String(), l.Entries.Digest) {
				return false
			}
		}
	}
	return true
}

// stays reports whether an index's record is exported as it is instead of one of the same
// layers that was made at a time: one that others have signed, or that is younger. Who signs
// takes nothing over that he has not signed.
func (t *exporter) stays(sc *loadedScope, was *record, created int64, outputs [][]layer) bool {
	return (t.keeps(was) || was.Created > created) && t.same(sc, was, outputs) && t.signs.satisfied(sc, was)
}

// entries are the records as they are written, signed if that was asked for. So are the
// mounts from now on.
func (t *exporter) entries(ctx context.Context, old *loadedScope, recs map[cache.Key]*cache.Record, outputs map[cache.Key][][]layer) ([]*entry, error) {
	var all []*entry
	for key, rec := range recs {
		r, err := t.session.exported(key, rec)
		if err != nil {
			return nil, err
		}
		e := &entry{r, outputs[key]}
		if was := old.records[key]; was != nil && t.stays(old, was, r.Created, outputs[key]) {
			e = &entry{*was, old.index.outputs(was)}
			e.Used = r.Used
		}
		all = append(all, e)
	}
	for i, m := range t.mounts {
		signed := *m // others may read this one
		t.mounts[i] = &signed
	}
	return all, t.signs.signAll(ctx, t.Scope, all, t.mounts, old)
}

// addOthers adds what another index has beside records that are written anew.
func (w *writer) addOthers(x *index, anew map[cache.Key]*cache.Record) {
	for _, r := range x.Records {
		if anew[r.Key] == nil {
			w.add(*r, x.outputs(r))
		}
	}
	for _, m := range x.Mounts {
		w.addMount(m)
	}
}
