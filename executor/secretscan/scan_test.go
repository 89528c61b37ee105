package secretscan

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

const secret = "s3cr3t/Tok+en?~v4lue"

// wrap breaks text into lines, as base64(1) and xxd(1) do.
func wrap(s string, n int) string {
	var b strings.Builder
	for len(s) > n {
		b.WriteString(s[:n] + "\n")
		s = s[n:]
	}
	return b.String() + s + "\n"
}

// Every form is found in every place, however the stream is cut.
func TestForms(t *testing.T) {
	set := New(map[string][]byte{"id": []byte(secret + "\n")})
	cases := map[string]struct {
		text string
		form Form
		at   int64
	}{
		"plain":         {"abc" + secret, Plain, 3},
		"after a start": {"s3cr3s3cr3t" + secret, Plain, 11},
		"hex":           {"--" + hex.EncodeToString([]byte(secret)), Hex, 2},
		"HEX":           {strings.ToUpper(hex.EncodeToString([]byte(secret))), Hex, 0},
		"wrapped hex":   {wrap(hex.EncodeToString([]byte("x"+secret)), 16), Hex, 2},
	}
	for before := range 4 {
		for after := range 3 {
			in := []byte("##########"[:before] + secret + "//////"[:after])
			for name, enc := range map[string]*base64.Encoding{
				"std": base64.StdEncoding, "raw": base64.RawStdEncoding, "url": base64.URLEncoding, "rawurl": base64.RawURLEncoding,
			} {
				text := enc.EncodeToString(in)
				at := int64((before*8 + 5) / 6)
				cases[fmt.Sprintf("base64 %s %d %d", name, before, after)] = struct {
					text string
					form Form
					at   int64
				}{text, Base64, at}
				cases[fmt.Sprintf("wrapped base64 %s %d %d", name, before, after)] = struct {
					text string
					form Form
					at   int64
				}{wrap(text, 10), Base64, at}
			}
		}
	}
	for name, c := range cases {
		for _, chunk := range []int{1, 3, 7, len(c.text)} {
			f := search(set, []byte(c.text), chunk)
			if f == nil || f.Form != c.form || f.Offset != c.at || f.Secret != "id" {
				t.Errorf("%s in chunks of %d: %+v, want %s at %d", name, chunk, f, c.form, c.at)
			}
		}
	}
}

func search(set *Set, text []byte, chunk int) *Found {
	s := set.Stream()
	for len(text) > 0 {
		n := min(chunk, len(text))
		if _, err := s.Write(text[:n]); err != nil {
			var f *Found
			errors.As(err, &f)
			return f
		}
		text = text[n:]
	}
	return nil
}

func TestNotSearched(t *testing.T) {
	for _, v := range []string{"", "short", "1234567\n", "00000000000000", "abababababab"} {
		if set := New(map[string][]byte{"id": []byte(v)}); set != nil {
			t.Errorf("%q is searched", v)
		}
	}
	set := New(map[string][]byte{"id": []byte("12345678")})
	if set.Find([]byte("1234567")) != nil || set.Find([]byte("x12345678x")) == nil {
		t.Error("a value of 8 bytes is not told from its beginning")
	}
}

// Of a key or a credentials file the parts that look random are searched by
// themselves, others only together.
func TestParts(t *testing.T) {
	key := "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\nAgEAAoIBAQC7VJTUt9Us8cKj\n-----END PRIVATE KEY-----\n"
	file := `{"type": "service_account", "auth_uri": "https://accounts.google.com/o/oauth2/auth", "password": "hunter2hunter2", "private_key_id": "0123456789abcdef0123456789abcdef"}`
	npmrc := "registry=https://registry.npmjs.org/\n//registry.npmjs.org/:_authToken=npm_aBcDeF0123456789\n"
	set := New(map[string][]byte{"key": []byte(key), "file": []byte(file), "npmrc": []byte(npmrc)})
	for _, text := range []string{key, file, "k=AgEAAoIBAQC7VJTUt9Us8cKj", "npm_aBcDeF0123456789", "id 0123456789abcdef0123456789abcdef"} {
		if set.Find([]byte(text)) == nil {
			t.Errorf("not found: %q", text)
		}
	}
	for _, text := range []string{"-----BEGIN PRIVATE KEY-----\n", "https://accounts.google.com/o/oauth2/auth", "service_account", "registry=https://registry.npmjs.org/\n"} {
		if f := set.Find([]byte(text)); f != nil {
			t.Errorf("%q: %v", text, f)
		}
	}
}

func TestLongValue(t *testing.T) {
	value := make([]byte, 100<<10)
	for i := range value {
		value[i] = byte(rand.Uint32())
	}
	set := New(map[string][]byte{"id": value})
	for _, text := range [][]byte{value, []byte(base64.StdEncoding.EncodeToString(value)), []byte(wrap(base64.StdEncoding.EncodeToString(value), 76))} {
		if search(set, text, 32<<10) == nil {
			t.Error("not found")
		}
	}
}

// Masked output holds no secret and all else, however it is cut.
func TestMask(t *testing.T) {
	set := New(map[string][]byte{"id": []byte(secret), "key": []byte("first line\nsecond line\n")})
	for in, want := range map[string]string{
		"nothing\nhere\n":                         "nothing\nhere\n",
		"a " + secret + " b\n":                    "a **** b\n",
		secret + secret:                           "********",
		"s3cr3t/Tok+e" + secret + "!":             "s3cr3t/Tok+e****!",
		"s3cr3t/Tok+en":                           "s3cr3t/Tok+en",
		"first line\nsecond line\nthird\n":        "****\nthird\n",
		"first line\nother\n":                     "first line\nother\n",
		hex.EncodeToString([]byte(secret)) + "\n": "****\n",
	} {
		for chunk := 1; chunk <= len(in); chunk++ {
			var out bytes.Buffer
			m := set.Mask(&out)
			for rest := in; len(rest) > 0; rest = rest[min(chunk, len(rest)):] {
				if _, err := m.Write([]byte(rest[:min(chunk, len(rest))])); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if out.String() != want || set.Find(out.Bytes()) != nil {
				t.Errorf("chunks of %d: %q, want %q", chunk, out.String(), want)
			}
			if (m.Found() != nil) != strings.Contains(want, hidden) {
				t.Errorf("%q: found %v", in, m.Found())
			}
		}
	}
}

func TestMaskBase64(t *testing.T) {
	set := New(map[string][]byte{"id": []byte(secret)})
	in := wrap("Basic "+base64.StdEncoding.EncodeToString([]byte("user:"+secret)), 20)
	for chunk := 1; chunk <= len(in); chunk++ {
		var out bytes.Buffer
		m := set.Mask(&out)
		for rest := in; len(rest) > 0; rest = rest[min(chunk, len(rest)):] {
			m.Write([]byte(rest[:min(chunk, len(rest))]))
		}
		m.Close()
		if got := out.String(); got != "Basic dXNlcjp****Q\n==\n" {
			t.Errorf("chunks of %d: %q", chunk, got)
		}
	}
}

// What is held back does not grow, and lines come out as they are finished.
func TestMaskIsPrompt(t *testing.T) {
	set := New(map[string][]byte{"id": []byte(secret)})
	var out bytes.Buffer
	m := set.Mask(&out)
	for i := range 1000 {
		line := fmt.Sprintf("line %d of s\n", i)
		out.Reset()
		if _, err := m.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if out.String() != line {
			t.Fatalf("%q came out as %q", line, out.String())
		}
	}
}

// Random streams: the mask and the search agree with a plain look.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	value := []byte("abcabcabd")
	set := New(map[string][]byte{"id": value})
	for range 3000 {
		text := make([]byte, r.IntN(60))
		for i := range text {
			text[i] = "abcd"[r.IntN(4)]
		}
		if r.IntN(2) == 0 {
			text = append(text, value...)
		}
		chunk := 1 + r.IntN(10)
		f, want := search(set, text, chunk), bytes.Index(text, value)
		if (f == nil) != (want < 0) || f != nil && f.Offset != int64(want) {
			t.Fatalf("%q: %v, want %d", text, f, want)
		}
		var out bytes.Buffer
		m := set.Mask(&out)
		for rest := text; len(rest) > 0; rest = rest[min(chunk, len(rest)):] {
			m.Write(rest[:min(chunk, len(rest))])
		}
		m.Close()
		if got := strings.ReplaceAll(string(text), string(value), hidden); out.String() != got {
			t.Fatalf("%q becomes %q, want %q", text, out.String(), got)
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	set := New(map[string][]byte{"id": []byte(secret), "other": []byte("another-Secret-0123456789")})
	random := make([]byte, 1<<20)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	for name, data := range map[string][]byte{"binary": random, "base64": []byte(wrap(base64.StdEncoding.EncodeToString(random), 76))} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			s := set.Stream()
			for b.Loop() {
				if f := s.find(data); f != nil {
					b.Fatal(f)
				}
			}
		})
	}
}
