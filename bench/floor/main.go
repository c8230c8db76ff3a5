// Command floor is what the kernel itself costs: one process that makes the links, addresses and routes of a pod with
// three networks (bridge, macvlan, bridge) from constants, by raw netlink. It has no JSON, leases, journal or waits, so
// no CNI plugin can be faster; the bench measures how far Patchbay is from it.
//
//	floor add NETNS N    N tells pods apart: names of host ends and the last address bytes
//	floor del NETNS N    deletes the three links at once, by group
//
// It expects the bridges bench0 and bench2 and the device uplink in its own namespace.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

var native = binary.NativeEndian

// A request under construction: header space, then a fixed body, then attributes.
type message struct{ bytes []byte }

func newMessage(kind, flags uint16, body []byte) *message {
	m := &message{make([]byte, unix.NLMSG_HDRLEN, 256)}
	native.PutUint16(m.bytes[4:], kind)
	native.PutUint16(m.bytes[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	m.bytes = append(m.bytes, body...)
	return m
}

func (m *message) attr(kind uint16, value []byte) *message {
	start := m.open(kind)
	m.bytes = append(m.bytes, value...)
	m.close(start)
	return m
}
func (m *message) u32(kind uint16, value uint32) *message {
	return m.attr(kind, native.AppendUint32(nil, value))
}
func (m *message) text(kind uint16, value string) *message {
	return m.attr(kind, append([]byte(value), 0))
}

// open begins a nested attribute, close ends it: length, then padding to 4 bytes.
func (m *message) open(kind uint16) int {
	start := len(m.bytes)
	m.bytes = native.AppendUint16(append(m.bytes, 0, 0), kind)
	return start
}
func (m *message) close(start int) {
	native.PutUint16(m.bytes[start:], uint16(len(m.bytes)-start))
	for len(m.bytes)%4 != 0 {
		m.bytes = append(m.bytes, 0)
	}
}

func linkBody(index int32, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(b[4:], uint32(index))
	native.PutUint32(b[8:], flags)
	native.PutUint32(b[12:], change)
	return b
}

// A routing socket in one namespace.
type socket struct {
	fd     int
	number uint32
	buffer [8192]byte
}

func openSocket() *socket {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	must(err, "socket")
	return &socket{fd: fd}
}

// do sends one request and waits for its acknowledgement; it gives back the body of an answer that came before it.
func (s *socket) do(m *message, what string) []byte {
	s.number++
	native.PutUint32(m.bytes, uint32(len(m.bytes)))
	native.PutUint32(m.bytes[8:], s.number)
	must(unix.Sendto(s.fd, m.bytes, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}), what)
	var answer []byte
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buffer[:], 0)
		must(err, what)
		for rest := s.buffer[:n]; len(rest) >= unix.NLMSG_HDRLEN; {
			length := native.Uint32(rest)
			body := rest[unix.NLMSG_HDRLEN:length]
			if native.Uint16(rest[4:]) == unix.NLMSG_ERROR {
				if code := int32(native.Uint32(body)); code != 0 {
					must(syscall.Errno(-code), what)
				}
				return answer
			}
			answer = append([]byte(nil), body...)
			rest = rest[min(int(length+3)&^3, len(rest)):]
		}
	}
}

func (s *socket) index(name string) int32 {
	answer := s.do(newMessage(unix.RTM_GETLINK, 0, linkBody(0, 0, 0)).text(unix.IFLA_IFNAME, name), "index of "+name)
	return int32(native.Uint32(answer[4:]))
}

func (s *socket) veth(host, pod string, bridge int32, podFd int) {
	m := newMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, linkBody(0, unix.IFF_UP, unix.IFF_UP))
	m.text(unix.IFLA_IFNAME, host).u32(unix.IFLA_MASTER, uint32(bridge))
	info := m.open(unix.IFLA_LINKINFO | unix.NLA_F_NESTED)
	m.attr(unix.IFLA_INFO_KIND, []byte("veth"))
	data := m.open(unix.IFLA_INFO_DATA | unix.NLA_F_NESTED)
	peer := m.open(1 | unix.NLA_F_NESTED)           // VETH_INFO_PEER
	m.bytes = append(m.bytes, linkBody(0, 0, 0)...) // a peer cannot be born up: the kernel has not joined the ends yet
	m.text(unix.IFLA_IFNAME, pod).u32(unix.IFLA_NET_NS_FD, uint32(podFd))
	m.close(peer)
	m.close(data)
	m.close(info)
	s.do(m, "veth "+host)
}

func (s *socket) macvlan(name string, parent int32, podFd int) {
	m := newMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, linkBody(0, 0, 0))
	m.text(unix.IFLA_IFNAME, name).u32(unix.IFLA_LINK, uint32(parent)).u32(unix.IFLA_NET_NS_FD, uint32(podFd))
	info := m.open(unix.IFLA_LINKINFO | unix.NLA_F_NESTED)
	m.attr(unix.IFLA_INFO_KIND, []byte("macvlan"))
	data := m.open(unix.IFLA_INFO_DATA | unix.NLA_F_NESTED)
	m.u32(1, 4) // IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE
	m.close(data)
	m.close(info)
	s.do(m, "macvlan "+name)
}

func (s *socket) up(index int32) {
	s.do(newMessage(unix.RTM_NEWLINK, 0, linkBody(index, unix.IFF_UP, unix.IFF_UP)), "up")
}

func (s *socket) address(index int32, address [4]byte) {
	body := []byte{unix.AF_INET, 24, 0, unix.RT_SCOPE_UNIVERSE, 0, 0, 0, 0}
	native.PutUint32(body[4:], uint32(index))
	s.do(newMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body).attr(unix.IFA_LOCAL, address[:]).attr(unix.IFA_ADDRESS, address[:]), "address")
}

func (s *socket) defaultRoute(index int32, gateway [4]byte) {
	body := []byte{unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	s.do(newMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body).attr(unix.RTA_GATEWAY, gateway[:]).u32(unix.RTA_OIF, uint32(index)), "default route")
}

func add(host, pod *socket, podFd int, n int) {
	last := byte(2 + n%250)
	host.veth("floor0-"+strconv.Itoa(n), "eth0", host.index("bench0"), podFd)
	first := pod.index("eth0")
	pod.up(first)
	pod.address(first, [4]byte{10, 210, 0, last})
	pod.defaultRoute(first, [4]byte{10, 210, 0, 1})

	host.macvlan("floor1-"+strconv.Itoa(n), host.index("uplink"), podFd)
	second := pod.index("floor1-" + strconv.Itoa(n))
	pod.do(newMessage(unix.RTM_NEWLINK, 0, linkBody(second, 0, 0)).text(unix.IFLA_IFNAME, "net1"), "rename")
	pod.up(second)
	pod.address(second, [4]byte{10, 211, 0, last})

	host.veth("floor2-"+strconv.Itoa(n), "net2", host.index("bench2"), podFd)
	third := pod.index("net2")
	pod.up(third)
	pod.address(third, [4]byte{10, 212, 0, last})
}

func del(pod *socket) {
	const group = 0x70620001
	for _, name := range []string{"eth0", "net1", "net2"} {
		pod.do(newMessage(unix.RTM_SETLINK, 0, linkBody(pod.index(name), 0, 0)).u32(unix.IFLA_GROUP, group), "group of "+name)
	}
	pod.do(newMessage(unix.RTM_DELLINK, 0, linkBody(0, 0, 0)).u32(unix.IFLA_GROUP, group), "delete")
}

func main() {
	if len(os.Args) != 4 {
		fail("usage: floor add|del NETNS N")
	}
	n, err := strconv.Atoi(os.Args[3])
	must(err, "N")
	runtime.LockOSThread()
	host := openSocket()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(err, "own namespace")
	podFd, err := unix.Open(os.Args[2], unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(err, os.Args[2])
	must(unix.Setns(podFd, unix.CLONE_NEWNET), "setns")
	pod := openSocket()
	must(unix.Setns(home, unix.CLONE_NEWNET), "setns home")
	switch os.Args[1] {
	case "add":
		add(host, pod, podFd, n)
	case "del":
		del(pod)
	default:
		fail("usage: floor add|del NETNS N")
	}
}

func must(err error, what string) {
	if err != nil {
		fail(what + ": " + err.Error())
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, "floor: "+text)
	os.Exit(1)
}
