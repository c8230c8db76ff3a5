"""What a virtual machine does with a tap: opens it, answers ARP and echo requests for one address.

usage: virtual-machine.py INTERFACE ADDRESS [multi]    (in the tap's namespace; prints "ready" when it is open)
"""
import fcntl
import os
import socket
import struct
import sys

TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_MULTI_QUEUE = 0x400454CA, 0x2, 0x1000, 0x100
MAC = bytes.fromhex("0a5800000099")


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def answer(frame, address):
    kind, body = frame[12:14], frame[14:]
    if kind == b"\x08\x06" and body[6:8] == b"\0\1" and body[24:28] == address:
        reply = body[:6] + b"\0\2" + MAC + address + body[8:18]
    elif kind == b"\x08\0" and body[9] == 1 and body[16:20] == address and body[20] == 8:
        icmp = b"\0\0\0\0" + body[24:]
        reply = body[:12] + address + body[12:16] + b"\0\0" + struct.pack("!H", checksum(icmp)) + icmp[4:]
    else:
        return None
    return frame[6:12] + MAC + kind + reply


name, address = sys.argv[1], socket.inet_aton(sys.argv[2])
flags = IFF_TAP | IFF_NO_PI | (IFF_MULTI_QUEUE if "multi" in sys.argv else 0)
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
print("ready", flush=True)
while True:
    try:
        frame = os.read(tap, 65536)
    except OSError:
        break  # the device is gone
    reply = answer(frame, address)
    if reply is not None:
        os.write(tap, reply)
