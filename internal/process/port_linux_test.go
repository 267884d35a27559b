package process

import (
	"net"
	"os"
	"testing"
)

func TestPortHolder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if pid, name, ok := PortHolder(port); !ok || pid != os.Getpid() || name == "" {
		t.Errorf("port %d is held by %d %q %v", port, pid, name, ok)
	}
	if _, err := net.Listen("tcp", l.Addr().String()); !AddressInUse(err) {
		t.Errorf("%v is no taken address", err)
	}
	l.Close()
	if _, _, ok := PortHolder(port); ok {
		t.Error("a free port is held")
	}
}
