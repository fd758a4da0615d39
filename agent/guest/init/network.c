/* lo and eth0, with static addresses, by ioctl. Duplicate address detection is off: the agent's plan is what makes an
 * address unique, and a second of waiting would be a second of every start. */
#define _GNU_SOURCE
#include "init.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool set_up(int handle, const char *name) {
    struct ifreq request = {0};
    strcpy(request.ifr_name, name);
    if (ioctl(handle, SIOCGIFFLAGS, &request) != 0) return false;
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    return ioctl(handle, SIOCSIFFLAGS, &request) == 0;
}

static void set_ipv6_sysctl(const char *interface, const char *key, const char *value) {
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/%s", interface, key);
    FILE *file = fopen(path, "we");
    if (file) {
        fputs(value, file);
        fclose(file);
    }
}

/* "ADDRESS/BITS" -> its two halves; `bits_default` without a slash. */
static unsigned split_prefix(char *text, unsigned bits_default) {
    char *slash = strchr(text, '/');
    if (!slash) return bits_default;
    *slash = 0;
    return (unsigned)strtoul(slash + 1, NULL, 10);
}

/* Called before the archive is here: Linux takes up to a second to see that a link is up. A machine that is only to
 * prove that it boots (agent/accelerator.py) has no network device. */
void network_prepare(void) {
    int handle = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    set_ipv6_sysctl("all", "accept_dad", "0");
    static const char *off[] = {"accept_dad", "dad_transmits", "accept_ra", "autoconf", "router_solicitations"};
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) set_ipv6_sysctl("eth0", off[i], "0");
    if (!set_up(handle, "lo")) say("lo: %s", strerror(errno));
    if (!set_up(handle, "eth0")) say("eth0: %s", strerror(errno));
    close(handle);
}

static void address_v6(int index) {
    char text[128], gateway[128];
    int handle = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (!boot_value("address", text, sizeof text)) fail("network_setup_failed", "boot.env has no address");
    struct in6_ifreq request = {.ifr6_ifindex = index, .ifr6_prefixlen = split_prefix(text, 128)};
    if (inet_pton(AF_INET6, text, &request.ifr6_addr) != 1)
        fail("network_setup_failed", "address %s is not IPv6", text);
    if (ioctl(handle, SIOCSIFADDR, &request) != 0 && errno != EEXIST)
        fail("network_setup_failed", "add address %s: %s", text, strerror(errno));
    if (boot_value("gateway", gateway, sizeof gateway)) {
        struct in6_rtmsg to = {.rtmsg_ifindex = index, .rtmsg_flags = RTF_UP | RTF_GATEWAY, .rtmsg_metric = 1};
        /* A gateway outside the prefix (a /128 address) is reached by a route of its own. */
        if (inet_pton(AF_INET6, gateway, &to.rtmsg_gateway) != 1)
            fail("network_setup_failed", "gateway %s is not IPv6", gateway);
        struct in6_rtmsg beside = to;
        beside.rtmsg_flags = RTF_UP | RTF_HOST;
        beside.rtmsg_dst_len = 128;
        beside.rtmsg_dst = to.rtmsg_gateway;
        if (request.ifr6_prefixlen == 128 && !IN6_IS_ADDR_LINKLOCAL(&to.rtmsg_gateway))
            ioctl(handle, SIOCADDRT, &beside);
        if (ioctl(handle, SIOCADDRT, &to) != 0)
            fail("network_setup_failed", "gateway %s: %s", gateway, strerror(errno));
    }
    close(handle);
}

static void set_v4(int handle, unsigned long call, const char *name, in_addr_t value) {
    struct ifreq request = {0};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = value};
    strcpy(request.ifr_name, name);
    memcpy(&request.ifr_addr, &address, sizeof address);
    if (ioctl(handle, call, &request) != 0) fail("network_setup_failed", "IPv4 of %s: %s", name, strerror(errno));
}

/* Optional: qemu's user network forwards host ports over IPv4 only. */
static void address_v4(int handle) {
    char text[64], gateway[64];
    if (!boot_value("address4", text, sizeof text)) return;
    unsigned bits = split_prefix(text, 32);
    if (bits < 1 || bits > 32) fail("network_setup_failed", "address4 has a prefix of %u bits", bits);
    set_v4(handle, SIOCSIFADDR, "eth0", inet_addr(text));
    set_v4(handle, SIOCSIFNETMASK, "eth0", htonl(~0U << (32 - bits)));
    if (!boot_value("gateway4", gateway, sizeof gateway)) return;
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    struct sockaddr_in any = {.sin_family = AF_INET};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(gateway)};
    memcpy(&route.rt_dst, &any, sizeof any);
    memcpy(&route.rt_genmask, &any, sizeof any);
    memcpy(&route.rt_gateway, &to, sizeof to);
    if (ioctl(handle, SIOCADDRT, &route) != 0)
        fail("network_setup_failed", "gateway4 %s: %s", gateway, strerror(errno));
}

static void set_mtu(int handle) {
    char text[16];
    struct ifreq request = {0};
    if (!boot_value("mtu", text, sizeof text)) return;
    strcpy(request.ifr_name, "eth0");
    request.ifr_mtu = atoi(text);
    if (ioctl(handle, SIOCSIFMTU, &request) != 0) fail("network_setup_failed", "mtu %s: %s", text, strerror(errno));
}

void network_up(void) {
    int handle = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    unsigned index = if_nametoindex("eth0");
    if (!index || !set_up(handle, "eth0")) fail("network_setup_failed", "eth0: %s", strerror(errno));
    set_mtu(handle);
    address_v6((int)index);
    address_v4(handle);
    close(handle);
}

/* Called inside the image's root. A link in the image (resolv.conf often is one) is replaced, not followed. */
void write_network_files(void) {
    char text[4096], hostname[256], address[128], servers[256];
    if (!boot_value("hostname", hostname, sizeof hostname)) strcpy(hostname, "instance");
    if (sethostname(hostname, strlen(hostname)) != 0)
        fail("network_setup_failed", "hostname %s: %s", hostname, strerror(errno));
    boot_value("address", address, sizeof address);
    split_prefix(address, 128);
    if (!make_folders("/etc")) fail("rootfs_build_failed", "make /etc: %s", strerror(errno));
    static const char hosts[] = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n%s %s\n";
    int size = snprintf(text, sizeof text, hosts, address, hostname);
    bool written = write_file("/etc/hosts", text, (size_t)size, 0644, 0, 0);
    size = snprintf(text, sizeof text, "%s\n", hostname);
    written = written && write_file("/etc/hostname", text, (size_t)size, 0644, 0, 0);
    size = 0;
    boot_value("dns", servers, sizeof servers);
    for (char *rest = servers, *server; (server = strsep(&rest, ", "));)
        if (*server) size += snprintf(text + size, sizeof text - (size_t)size, "nameserver %s\n", server);
    written = written && write_file("/etc/resolv.conf", text, (size_t)size, 0644, 0, 0);
    if (!written) fail("network_setup_failed", "write /etc/hosts: %s", strerror(errno));
}
