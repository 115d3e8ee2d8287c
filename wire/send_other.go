//go:build !linux

package wire

import "net"

func writeMore(conn net.Conn, b []byte) error {
	_, err := conn.Write(b)
	return err
}

func sendRegion(conn net.Conn, r Region) error { return copyRegion(conn, r) }
