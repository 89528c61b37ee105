package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// duEquals fails unless the total of `builder du --format json` is within 2 % of
// what du(1) says of the store.
func duEquals() error {
	root := os.Getenv("BUILDER_ROOT")
	out, err := exec.Command("builder", "du", "--format", "json").Output()
	if err != nil {
		return fmt.Errorf("builder du: %w", err)
	}
	var ours int64
	for line := range bytes.Lines(out) {
		_, rest, _ := bytes.Cut(line, []byte(`"Size":`))
		n, _, _ := bytes.Cut(rest, []byte(","))
		size, err := strconv.ParseInt(string(n), 10, 64)
		if err != nil {
			return err
		}
		ours += size
	}
	out, err = exec.Command("du", "-s", "-B1", root).Output()
	if err != nil {
		return fmt.Errorf("du: %w", err)
	}
	theirs, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		return err
	}
	if diff := ours - theirs; diff > theirs/50 || diff < -theirs/50 {
		return fmt.Errorf("builder du says %d bytes, du %d", ours, theirs)
	}
	return nil
}

// damage changes one layer's file, one blob and one record of the store.
func damage() error {
	root := os.Getenv("BUILDER_ROOT")
	for _, pattern := range []string{"layers/*/dir/kept", "blobs/sha256/*", "cache/??/*.json"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			return fmt.Errorf("nothing to damage: %s: %w", pattern, fs.ErrNotExist)
		}
		data, err := os.ReadFile(found[0])
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(found[0], data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// fresh makes the context big, with a new file of 20 MB.
func fresh() error {
	data := make([]byte, 20_000_000)
	if _, err := rand.Read(data); err != nil {
		return err
	}
	if err := os.MkdirAll("big", 0o755); err != nil {
		return err
	}
	return errors.Join(os.WriteFile("big/a", data, 0o644), os.WriteFile("big/Dockerfile", []byte("FROM scratch\nCOPY a /a\n"), 0o644))
}

// under fails if the store has more bytes than its argument says, save for 2 %.
func under() error {
	limit, err := strconv.ParseInt(os.Args[1], 10, 64)
	if err != nil {
		return err
	}
	out, err := output("du", "-s", "-B1", os.Getenv("BUILDER_ROOT"))
	if err != nil {
		return err
	}
	used, err := strconv.ParseInt(strings.Fields(out)[0], 10, 64)
	if err == nil && used > limit+limit/50 {
		err = fmt.Errorf("the store has %d bytes, its budget is %d", used, limit)
	}
	return err
}

// churn builds and runs images in several processes at once while others prune the
// store again and again, and fails if any of them does. It ends after 40 builds.
func churn() error {
	const builders, rounds = 4, 10
	done := make(chan struct{})
	var builds, prunes errgroup.Group
	for n := range builders {
		builds.Go(func() error {
			for round := range rounds {
				if err := buildAndRun(n, round); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 2 {
		prunes.Go(func() error {
			for {
				select {
				case <-done:
					return nil
				default:
				}
				if _, err := output("builder", "prune", "-a", "-f"); err != nil {
					return err
				}
			}
		})
	}
	err := builds.Wait()
	close(done)
	return errors.Join(err, prunes.Wait())
}

// buildAndRun builds an image under a name, runs it, and takes the name away.
func buildAndRun(n, round int) error {
	name := fmt.Sprintf("churn%d", n)
	arg := fmt.Sprintf("N=%d", round/2*builderStride+n%2)
	if _, err := output("builder", "build", "-q", "-t", name, "--build-arg", arg, "churn"); err != nil {
		return err
	}
	got, err := output("builder", "run", "--rm", name, "cat", "/first", "/second")
	if err != nil {
		return err
	}
	if want := strings.Repeat(arg+"\n", 2); got != want {
		return fmt.Errorf("%s holds %q, not %q", name, got, want)
	}
	_, err = output("builder", "rmi", name)
	return err
}

// builderStride keeps the contents of rounds apart; two builders share each.
const builderStride = 2

func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}

// program makes a command of the scripts of a function.
func program(fn func() error) func() {
	return func() {
		if err := fn(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
