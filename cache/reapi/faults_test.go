package reapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/fixtures"
	"layered.build/builder/fixtures/remotecache"
	"layered.build/builder/registry/grpc"
)

// answering is a server that gives each call the messages of answer.
func answering(t *testing.T, answer http.HandlerFunc) *remotecache.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		answer(w, r)
		w.Header().Set("Grpc-Status", "0")
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	return &remotecache.Server{Host: srv.Listener.Addr().String()}
}

// noSecrets fails the test if an error, or one behind it, shows a credential.
func noSecrets(t *testing.T, err error) {
	t.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		for _, form := range []string{err.Error(), fmt.Sprintf("%+v", err)} {
			if strings.Contains(form, testToken) {
				t.Errorf("the token is in %s", form)
			}
		}
	}
}

// all makes every call that there is, with small and large blobs.
func all(t *testing.T, p *Place) map[string]error {
	t.Helper()
	small, large := []byte("small"), make([]byte, 3<<20)
	errs := map[string]error{}
	_, _, errs["index"] = p.Index(t.Context(), "")
	errs["replace"] = p.Replace(t.Context(), "", small, nil, "")
	_, errs["missing"] = p.Missing(t.Context(), []shared.Blob{sharedtest.NewBlob(small)})
	for name, data := range map[string][]byte{"small": small, "large": large} {
		errs["store "+name] = p.Store(t.Context(), sharedtest.NewBlob(data), sharedtest.Content(data))
		r, err := p.Open(t.Context(), sharedtest.NewBlob(data), 0)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		errs["open "+name] = err
	}
	return errs
}

// TestStatuses fails all calls in each way: what passes is tried again, what does not is
// not, and nothing is told that is secret.
func TestStatuses(t *testing.T) {
	for code, c := range map[grpc.Code]struct {
		want string
		once bool
	}{
		grpc.Unauthenticated:    {"UNAUTHENTICATED: bad *** (credentials are given as header=authorization=…", true},
		grpc.PermissionDenied:   {"PERMISSION_DENIED: bad *** (who may read only", true},
		grpc.InvalidArgument:    {"INVALID_ARGUMENT: bad ***", true},
		grpc.FailedPrecondition: {"FAILED_PRECONDITION: bad ***", true},
		grpc.DataLoss:           {"DATA_LOSS: bad ***", true},
		grpc.Unavailable:        {"UNAVAILABLE: bad ***", false},
		grpc.ResourceExhausted:  {"RESOURCE_EXHAUSTED: bad ***", false},
		grpc.DeadlineExceeded:   {"DEADLINE_EXCEEDED: bad ***", false},
		grpc.Aborted:            {"ABORTED: bad ***", false},
		grpc.Internal:           {"INTERNAL: bad ***", false},
	} {
		t.Run(code.String(), func(t *testing.T) {
			s := start(t, &remotecache.Server{Fault: func(_ string, r *http.Request) *grpc.Status {
				return &grpc.Status{Code: code, Text: "bad\n" + r.Header.Get("Authorization")[len("Bearer "):]}
			}})
			for name, err := range all(t, open(t, quick, s, "")) {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: got %v, want %q", name, err, c.want)
				}
				noSecrets(t, err)
			}
			if n := s.Calls("FindMissingBlobs"); n != 1 && c.once || n != attempts && !c.once {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// TestPassing fails every call twice, as servers do that are busy or restart. Of reading only
// whoever reads knows whether to go on.
func TestPassing(t *testing.T) {
	for _, code := range []grpc.Code{grpc.Unavailable, grpc.ResourceExhausted} {
		var mu sync.Mutex
		n := map[string]int{}
		s := start(t, &remotecache.Server{Fault: func(method string, _ *http.Request) *grpc.Status {
			mu.Lock()
			defer mu.Unlock()
			n[method]++
			if n[method]%3 != 0 && !strings.Contains(method, "Read") && method != "QueryWriteStatus" {
				return &grpc.Status{Code: code, Pause: 2 * time.Millisecond}
			}
			return nil
		}})
		for name, err := range all(t, open(t, quick, s, "")) {
			if err != nil && name != "index" {
				t.Errorf("%s, %s: %v", code, name, err)
			}
		}
	}
}

// A server that wants to be left alone for long is left.
func TestLongPause(t *testing.T) {
	s := start(t, &remotecache.Server{Fault: func(string, *http.Request) *grpc.Status {
		return &grpc.Status{Code: grpc.ResourceExhausted, Pause: maxPause + time.Second}
	}})
	if _, _, err := open(t, quick, s, "").Index(t.Context(), ""); grpc.CodeOf(err) != grpc.ResourceExhausted || s.Calls("GetActionResult") != 1 {
		t.Errorf("%v after %d calls", err, s.Calls("GetActionResult"))
	}
}

// TestHang has calls never answered: each ends, and those that wait for what the server can
// do wait together.
func TestHang(t *testing.T) {
	s := start(t, &remotecache.Server{Fault: func(_ string, r *http.Request) *grpc.Status {
		<-r.Context().Done()
		return &grpc.Status{Code: grpc.Canceled}
	}})
	p := open(t, Settings{Patience: 50 * time.Millisecond, Pause: time.Millisecond}, s, "")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := p.Store(t.Context(), sharedtest.NewBlob([]byte("b")), sharedtest.Content([]byte("b"))); !errors.Is(err, grpc.ErrSilent) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	for name, err := range all(t, p) {
		if !errors.Is(err, grpc.ErrSilent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A canceled call ends with the reason.
func TestCancel(t *testing.T) {
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	s := start(t, &remotecache.Server{Fault: func(_ string, r *http.Request) *grpc.Status {
		cancel(why)
		<-r.Context().Done()
		return nil
	}})
	p := open(t, quick, s, "")
	if _, _, err := p.Index(ctx, ""); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	large := make([]byte, 3<<20)
	if err := p.Store(ctx, sharedtest.NewBlob(large), sharedtest.Content(large)); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

// What nobody answers ends soon.
func TestNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for name, err := range all(t, open(t, quick, &remotecache.Server{Host: l.Addr().String()}, "")) {
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server of something else is named as such.
func TestOther(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range all(t, open(t, quick, &remotecache.Server{Host: u.Host}, "")) {
		if !errors.Is(err, grpc.ErrNotGRPC) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Capabilities are not needed, but what they forbid is not tried.
func TestCapabilities(t *testing.T) {
	cache := func(m grpc.Message) grpc.Message { return grpc.Message(nil).Sub(1, m) }
	for name, c := range map[string]struct {
		answer grpc.Message
		want   limits
		err    string
	}{
		"all":         {cache(grpc.Message(nil).Number(1, 1).Sub(2, grpc.Message(nil).Flag(1, true)).Number(4, 99).Number(8, 7)), limits{99, 7, true}, ""},
		"packed":      {cache(grpc.Message(nil).Sub(1, grpc.Message{2, 1})), limits{maxBatch, 0, false}, ""},
		"large":       {cache(grpc.Message(nil).Number(1, 1).Number(4, 1<<40).Number(8, -1)), limits{maxBatch, 0, false}, ""},
		"execution":   {grpc.Message(nil).Sub(2, nil), limits{batch: maxBatch}, "no cache"},
		"other hash":  {cache(grpc.Message(nil).Number(1, 2)), limits{batch: maxBatch}, "does not know sha256"},
		"no hash":     {cache(nil), limits{batch: maxBatch}, "does not know sha256"},
		"no message ": {grpc.Message("\xff"), limits{batch: maxBatch}, "does not answer as"},
	} {
		got, err := readCapabilities(c.answer)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	s := start(t, &remotecache.Server{Fault: func(method string, _ *http.Request) *grpc.Status {
		if method == "GetCapabilities" {
			return &grpc.Status{Code: grpc.Unimplemented}
		}
		return nil
	}})
	if err := open(t, quick, s, "").Replace(t.Context(), "", []byte("index"), nil, ""); err != nil {
		t.Error(err)
	}
}

// Blobs that are damaged are read as they are, or are an error; more than they have is
// never read.
func TestDamagedBlobs(t *testing.T) {
	for name, mangle := range map[string]func([]byte) []byte{
		"truncated": func(b []byte) []byte { return b[:len(b)/2] },
		"longer":    func(b []byte) []byte { return append(b, b...) },
		"nothing":   func([]byte) []byte { return nil },
	} {
		for _, size := range []int{1000, 3 << 20} {
			s := start(t, &remotecache.Server{Mangle: func(_ digest.Digest, b []byte) []byte { return mangle(b) }})
			p := open(t, quick, s, "")
			data := make([]byte, size)
			b := sharedtest.NewBlob(data)
			if err := p.Store(t.Context(), b, sharedtest.Content(data)); err != nil {
				t.Fatal(err)
			}
			r, err := p.Open(t.Context(), b, 0)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(r)
				r.Close()
			}
			if !errors.Is(err, errDamaged) || len(got) > size {
				t.Errorf("%s, %d: got %d bytes, %v", name, size, len(got), err)
			}
		}
	}
}

// A server that sends messages without data does not hold anybody for ever.
func TestEmptyMessages(t *testing.T) {
	s := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "GetCapabilities") {
			w.Write(grpc.Frame(grpc.Message(nil).Sub(1, grpc.Message(nil).Number(1, 1)))) //nolint:errcheck // the test fails otherwise
			return
		}
		for r.Context().Err() == nil {
			w.Write(grpc.Frame(nil)) //nolint:errcheck // the client has enough
		}
	})
	b := sharedtest.NewBlob(make([]byte, 3<<20))
	if _, err := open(t, quick, s, "").Open(t.Context(), b, 0); !errors.Is(err, grpc.ErrNotGRPC) {
		t.Errorf("got %v", err)
	}
}

func TestSecrets(t *testing.T) {
	var s secrets
	s.add("Bearer abcdefgh")
	s.add("Basic " + base64.StdEncoding.EncodeToString([]byte("user:password")))
	s.add("key")
	text := s.plain("Bearer key: abcdefgh, Bearer abcdefgh,\tpassword, " + base64.StdEncoding.EncodeToString([]byte("user:password")) + strings.Repeat("x", 1000))
	if want := "Bearer key: ***, ***, ***, ***xxx"; !strings.HasPrefix(text, want) || len(text) > maxText+3 {
		t.Errorf("got %s", text)
	}
}

// pair makes a certificate and its key, and files of them.
func pair(t *testing.T, dir string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	fixtures.WriteFiles(t, dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	serverDir, clientDir := t.TempDir(), t.TempDir()
	cert, _ := pair(t, serverDir)
	_, clients := pair(t, clientDir)
	s := start(t, &remotecache.Server{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}})
	ca := ",ca=" + filepath.Join(serverDir, "cert.pem")
	mine := ",cert=" + filepath.Join(clientDir, "cert.pem") + ",key=" + filepath.Join(clientDir, "key.pem")
	for more, ok := range map[string]bool{ca + mine: true, ",insecure=true" + mine: true, ca: false, mine: false} {
		err := open(t, quick, s, more).Replace(t.Context(), "", []byte("index"), nil, "")
		if errors.Is(err, shared.ErrConflict) { // another was first
			err = nil
		}
		if (err == nil) != ok {
			t.Errorf("%s: %v", more, err)
		}
		noSecrets(t, err)
	}
}
