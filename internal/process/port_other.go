//go:build !linux

package process

// PortHolder is known on Linux only.
func PortHolder(int) (pid int, name string, ok bool) { return 0, "", false }
