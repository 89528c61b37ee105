package rootless

import "testing"

func TestChrootWay(t *testing.T) {
	way, err := chrootWay()
	if err != nil || way.Isolation != Chroot {
		t.Errorf("%+v, %v", way, err)
	}
}

func BenchmarkChrootWay(b *testing.B) {
	for b.Loop() {
		if _, err := chrootWay(); err != nil {
			b.Fatal(err)
		}
	}
}
