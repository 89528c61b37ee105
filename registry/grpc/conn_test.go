package grpc

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// start starts a server of HTTP/2 and returns its address.
func start(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func connect(t *testing.T, host string, o Options) *Conn {
	t.Helper()
	c := New(host, o)
	t.Cleanup(c.Close)
	return c
}

// echo answers every message with what it was, and ends with a status.
func echo(code Code) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc+proto")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		http.NewResponseController(w).Flush() //nolint:errcheck // the test fails otherwise
		for {
			msg, err := ReadFrame(r.Body)
			if err != nil {
				break
			}
			w.Write(Frame(append([]byte(r.Header.Get("Tenant")+r.URL.Path+" "), msg...))) //nolint:errcheck // as above
			http.NewResponseController(w).Flush()                                         //nolint:errcheck // as above
		}
		w.Header().Set("Grpc-Status", fmt.Sprint(int(code)))
		w.Header().Set("Grpc-Message", "100%25 wrong")
	}
}

func TestStream(t *testing.T) {
	c := connect(t, start(t, echo(OK)), Options{Patience: time.Minute, Header: map[string]string{"tenant": "a"}})
	if got, err := c.With("tenant", "b").Call(t.Context(), "p.S/M", []byte("one")); err != nil || string(got) != "b/p.S/M one" {
		t.Errorf("got %q, %v", got, err)
	}
	s := c.Open(t.Context(), "p.S/N")
	defer s.Close()
	for _, m := range []string{"one", "", strings.Repeat("three", 1<<17)} {
		if got, err := s.Exchange([]byte(m)); err != nil || string(got) != "a/p.S/N "+m {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	}
	s.EndSending()
	if got, err := s.Receive(); err != io.EOF {
		t.Errorf("at the end: %q, %v", got, err)
	}
}

// TestEnded ends calls in the midst.
func TestEnded(t *testing.T) {
	c := connect(t, start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "8")
	}), Options{})
	s := c.Open(t.Context(), "p.S/M")
	defer s.Close()
	for err := error(nil); !errors.Is(err, ErrEnded); {
		if err = s.Send(make([]byte, 1<<20)); err != nil && !errors.Is(err, ErrEnded) {
			t.Fatal(err)
		}
	}
	if _, err := s.Receive(); CodeOf(err) != ResourceExhausted {
		t.Errorf("got %v", err)
	}
	left := connect(t, start(t, echo(OK)), Options{}).Open(t.Context(), "p.S/M")
	left.Close() // does not hang
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("changed my mind"))
	if _, err := c.Call(ctx, "p.S/M", nil); err == nil || err.Error() != "changed my mind" {
		t.Errorf("got %v", err)
	}
}

// TestSilent waits for servers that say nothing: never accept, never answer, or answer
// with a beginning only.
func TestSilent(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	hang := start(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "begin") {
			w.Header().Set("Content-Type", "application/grpc")
			w.Write(Frame([]byte("whole"))[:7])   //nolint:errcheck // the test fails otherwise
			http.NewResponseController(w).Flush() //nolint:errcheck // as above
		}
		<-r.Context().Done()
	})
	for name, c := range map[string]*Conn{
		"mute/m":  connect(t, mute.Addr().String(), Options{Patience: 50 * time.Millisecond}),
		"hang/m":  connect(t, hang, Options{Patience: 50 * time.Millisecond}),
		"h/begin": connect(t, hang, Options{Patience: 50 * time.Millisecond}),
	} {
		if _, err := c.Call(t.Context(), name, nil); !errors.Is(err, ErrSilent) {
			t.Errorf("%s, call: %v", name, err)
		}
		s := c.Open(t.Context(), name)
		if _, err := s.Exchange(nil); !errors.Is(err, ErrSilent) {
			t.Errorf("%s, stream: %v", name, err)
		}
		s.Close()
	}
}

// TestOthers meets servers of something else.
func TestOthers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // a web server that knows HTTP/1 alone
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			bufio.NewReader(c).ReadString('\n')                                                                      //nolint:errcheck // whatever it is
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>Bad Request</html>") //nolint:errcheck // the test fails otherwise
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	if _, err := connect(t, l.Addr().String(), Options{Patience: time.Minute}).Call(t.Context(), "p.S/M", nil); !errors.Is(err, ErrNotGRPC) {
		t.Errorf("HTTP/1: %v", err)
	}
	nobody := l.Addr().String()
	l.Close()
	if _, err := connect(t, nobody, Options{}).Call(t.Context(), "p.S/M", nil); err == nil || errors.Is(err, ErrNotGRPC) {
		t.Errorf("nobody: %v", err)
	}
	for status, want := range map[int]Code{400: Internal, 401: Unauthenticated, 403: PermissionDenied, 404: Unimplemented, 429: Unavailable, 503: Unavailable, 500: Unknown, 200: Unknown} {
		c := connect(t, start(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }), Options{})
		if _, err := c.Call(t.Context(), "p.S/M", nil); !errors.Is(err, ErrNotGRPC) || CodeOf(err) != want {
			t.Errorf("HTTP status %d: %v, %s", status, err, CodeOf(err))
		}
	}
}

func TestTLS(t *testing.T) {
	for _, http2 := range []bool{true, false} {
		srv := httptest.NewUnstartedServer(echo(OK))
		srv.EnableHTTP2 = http2
		srv.Config.ErrorLog = nil
		srv.StartTLS()
		roots := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		c := connect(t, srv.Listener.Addr().String(), Options{TLS: &tls.Config{RootCAs: roots}, Patience: time.Minute})
		got, err := c.Call(t.Context(), "p.S/M", []byte("x"))
		if http2 && (err != nil || string(got) != "/p.S/M x") || !http2 && err == nil {
			t.Errorf("HTTP/2 %t: %q, %v", http2, got, err)
		}
		srv.Close()
	}
}

func TestStatus(t *testing.T) {
	info := Message(nil).Sub(1, Message(nil).Number(1, 3).Number(2, 5e8))
	details := Message(nil).Number(1, 8).Text(2, "full").Sub(3, Message(nil).Text(1, "type.googleapis.com/google.rpc.Help")).
		Sub(3, Message(nil).Text(1, "type.googleapis.com/google.rpc.RetryInfo").Bytes(2, info))
	for _, c := range []struct {
		header map[string]string
		text   string
		pause  time.Duration
	}{
		{nil, "gRPC status 8", 0},
		{map[string]string{"Grpc-Message": "f%C3%BCll"}, "füll", 0},
		{map[string]string{"Grpc-Message": "50% full"}, "50% full", 0},
		{map[string]string{"Grpc-Retry-Pushback-Ms": "20"}, "gRPC status 8", 20 * time.Millisecond},
		{map[string]string{"Grpc-Status-Details-Bin": base64.RawStdEncoding.EncodeToString(details)}, "gRPC status 8", 3500 * time.Millisecond},
		{map[string]string{"Grpc-Status-Details-Bin": base64.StdEncoding.EncodeToString(details)}, "gRPC status 8", 3500 * time.Millisecond},
		{map[string]string{"Grpc-Status-Details-Bin": "?"}, "gRPC status 8", 0},
	} {
		resp := &http.Response{Header: http.Header{"Grpc-Status": {"8"}}}
		for k, v := range c.header {
			resp.Header.Set(k, v)
		}
		var got *Status
		if err := status(resp); !errors.As(err, &got) || got.Code != ResourceExhausted || got.Text != c.text || got.Pause != c.pause {
			t.Errorf("%v: got %#v", c.header, got)
		}
	}
	if got := ResourceExhausted.String() + Code(99).String() + CodeOf(io.EOF).String(); got != "RESOURCE_EXHAUSTED99OK" {
		t.Error(got)
	}
}
