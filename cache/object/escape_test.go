package object

import "testing"

func TestEscape(t *testing.T) {
	if got, want := EscapePath("/a b/ü~.-_+=:%/x"), "/a%20b/%C3%BC~.-_%2B%3D%3A%25/x"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := Query(map[string]string{"b": "/ +", "a": ""}), "a=&b=%2F%20%2B"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
