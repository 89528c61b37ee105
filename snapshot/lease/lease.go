// Package lease has what the open stores of one folder agree upon, in one process or in
// several: who uses what of it, how much it may grow, and what those left that died.
//
// An open store is a Lease: a file that is locked while it is open. What it uses is
// written down in that file, and what it is making has names that begin with the
// file's, so that both end with it however it ends.
package lease

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"layered.build/builder/snapshot/files"
)

// The folders of a store that leases own. Who opens one has made them.
const (
	LocksDir = "locks" // leases, and locks on things by name
	TmpDir   = "tmp"   // what is in the making or about to be deleted
)

// Lease is one user of a folder. It is safe for concurrent use.
type Lease struct {
	root string
	name string
	lock *files.Lock
	seq  atomic.Int64 // numbers temporary entries

	known   sync.Map // pins that are written down
	written atomic.Int64
	noted   atomic.Int64 // of these bytes, those that are in the account

	mu     sync.Mutex // guards what follows, and the content of the lock's file
	gate   *os.File   // collectLock, nil until it is needed
	all    bool       // the gate stays locked: nothing can be collected any more
	closed bool
}

// Open takes a lease on a store's folder.
func Open(root string) (*Lease, error) {
	// A process that reclaims may hold a new lock file for a moment, to see whether
	// anybody does: then another name is taken.
	for range 100 {
		name := "p" + randomName()
		lock, err := files.TryLockFile(filepath.Join(root, LocksDir, name), files.Exclusive)
		if err == nil {
			return &Lease{root: root, name: name, lock: lock}, nil
		}
		if !errors.Is(err, files.ErrLocked) {
			return nil, err
		}
	}
	return nil, errors.New("no lock of its own could be taken")
}

func randomName() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Close ends the lease. What it was making is garbage from then on. It is idempotent.
func (l *Lease) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var err error
	if l.gate != nil {
		err = l.gate.Close()
	}
	return errors.Join(err, l.lock.Remove())
}

// Name tells the lease from all others.
func (l *Lease) Name() string { return l.name }

func (l *Lease) path(elem ...string) string {
	return filepath.Join(append([]string{l.root}, elem...)...)
}

// TempName returns a new path below a folder of the store, which Reclaim removes when the
// lease has ended.
func (l *Lease) TempName(folder string) string {
	return l.path(folder, fmt.Sprintf("%s-%d", l.name, l.seq.Add(1)))
}

// TempDir makes a new directory called by TempName, with mode 0700.
func (l *Lease) TempDir(folder string) (string, error) {
	p := l.TempName(folder)
	return p, os.Mkdir(p, 0o700)
}

// WriteFile puts a small file in place at once or not at all.
func (l *Lease) WriteFile(path string, data []byte) error {
	return files.Replace(path, data, files.Replacement{Temp: l.path(TmpDir), Prefix: l.name + "-file"})
}
