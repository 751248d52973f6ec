"""Words that nft(8) reads as its own where the name of a table or of a device belongs.

They are those that nft 0.9.8, 1.0.6 or 1.1.3 refuses in `table inet WORD`, `add rule inet WORD ...`
or `list table inet WORD`; each of the three has some that the others have not. It refuses no other
in `iifname { WORD }`. A device's name may be quoted, a table's may not.
"""

from __future__ import annotations

_TEXT = """
    accept ackseq add addr ah all and arp auto-merge avgpkt bridge burst bypass bytes cfi cgroup
    chain chains checksum classid code comment comp constant continue count counter counters cpi
    cpu create ct daddr day dccp define delete describe destroy device devices direction dnat
    doff dport drop dscp dst dup dynamic echo ecn element elements eol eq esp ether event exists
    expectation expiration expires export exthdr fanout fib flags flow flowlabel flowtable
    flowtables flush frag frag-off fully-random fwd gateway gc-interval ge geneve get goto gre
    gretap group gt handle hbh hdrlength helper helpers hlen hook hooks hoplimit hour htype
    ibriport ibrname icmp icmpv6 icmpx id igmp iif iifgroup iifname iiftype import in inc
    include index inet insert interval ip ip6 ipsec jhash json jump kind l3proto label
    last-entry le left length level limit limits list ll log lshift lsrr lt map maps mark
    masquerade max-delay maxseg memory meta meter meters mh microsecond millisecond minute
    missing mod mode monitor more-fragments mrt mss mtu name nanosecond ne netdev nexthdr
    nexthop nftrace nh noop nop not notrack num numgen obriport obrname offload offset oif
    oifgroup oifname oiftype operation option options or original osf out over packets
    param-problem pcp performance persistent pkttype plen policy port position prefix priority
    proto-dst proto-src protocol ptr ptype queue queue-threshold quota quotas ra random rate
    redefine redirect reject rename replace reply reqid reserved reserved2 reset return right rr
    rshift rt rt0 rt2 rtclassid rule rules ruleset sack sack-perm sack-permitted sack0 sack1
    sack2 sack3 saddr sctp secmark secmarks second seed seg-left set sets sid size skgid skuid
    snaplen snat socket spi spnum sport srh ssrr state status symhash synproxy synproxys table
    tables tag tcp th time timeout timestamp to tproxy trace transparent transport tsecr tsval
    ttl tunnel type typeof udp udplite undefine until update urgptr used value version vlan vm
    vmap vni vtag vxlan week wildcard window with wscale xml xor xt zone
"""

NFT_WORDS = frozenset(_TEXT.split())
