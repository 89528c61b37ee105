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
	made   map[leaf]mark
	mine   map[*signature]bool // which others the key made
}

func newSigns(s *sign.Signer) *signs {
	return &signs{signer: s, made: map[leaf]mark{}, mine: map[*signature]bool{}}
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
// the same key, as far as that is known.
func (s *signs) holds(m mark, l leaf) bool {
	if !m.says(l) {
		return false
	}
	if s.signer == nil || s.signer.Public() == nil {
		return true
	}
	mine, ok := s.mine[m.sig]
	if !ok {
		mine = sign.Keys{s.signer.Public()}.Verify(m.sig.message(), m.sig.Signature)
		s.mine[m.sig] = mine
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
			s.made[u.leaf], s.mine[fresh] = m, true
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
	return nil
}

// keeps reports whether a record with the same layers is left as it is: who does not sign
// leaves what others have signed.
func (t *exporter) keeps(r *record) bool { return r.sig != nil && t.Signer == nil }

// entries are the records as they are written, signed if that was asked for. So are the
// mounts from now on.
func (t *exporter) entries(ctx context.Context, old *loadedScope, recs map[cache.Key]*cache.Record, outputs map[cache.Key][][]layer) ([]*entry, error) {
	var all []*entry
	for key, rec := range recs {
		r, err := t.session.exported(key, rec)
		if err != nil {
			return nil, err
		}
		if was := old.records[key]; was != nil && (t.keeps(was) || was.Created > r.Created) && sameOutputs(old.index.outputs(was), outputs[key]) {
			used := r.Used
			r = *was
			r.Used = used
		}
		all = append(all, &entry{r, outputs[key]})
	}
	for i, m := range t.mounts {
		signed := *m // others may read this one
		t.mounts[i] = &signed
	}
	return all, t.signs.signAll(ctx, t.Scope, all, t.mounts, old)
}
