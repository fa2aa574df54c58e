// A real pinning service on one node: @helia/pinning-service-api-server, which keeps its pins in a Helia of its own.
//
//   service [--listen MULTIADDR]… [--token TOKEN]
//
// It listens on free ports of 127.0.0.1: TCP for libp2p unless told otherwise, and HTTP for the IPFS Pinning Service
// API. It knows no bootstrap peers, no gateways and no routers over HTTP: it finds blocks at the `origins` of a pin and
// in the Kademlia network `/ipfs/lan/kad/1.0.0`, of which it is a server. All is in memory.
//
// Commands, one a line on standard input, answered as lines.mjs says:
//
//   has CID…        which of these blocks are here          peers           who is connected
//   connect MULTIADDR                                       hangup          closes all connections
//
// Its one event is `ready`, with `url` and `token` for the API.
import { parseArgs } from 'node:util'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { bitswap } from '@helia/block-brokers'
import { createPinningServiceAPIServer } from '@helia/pinning-service-api-server'
import { libp2pRouting } from '@helia/routers'
import { Helia } from '@helia/utils'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { MemoryBlockstore } from 'blockstore-core'
import { MemoryDatastore } from 'datastore-core'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import { event, serve, tellErrors } from '../lines.mjs'

// Far above what a dial on loopback takes, and below the time-outs of the tests.
const NETWORK_MS = 20_000

const { values: options } = parseArgs({
  options: {
    listen: { type: 'string', multiple: true, default: ['/ip4/127.0.0.1/tcp/0'] },
    token: { type: 'string', default: 'secret' }
  }
})

tellErrors()

const libp2p = await createLibp2p({
  addresses: { listen: options.listen },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    ping: ping(),
    // The service calls a pin failed when it cannot announce it, so that it needs a network to do so.
    dht: kadDHT({ protocol: '/ipfs/lan/kad/1.0.0', clientMode: false, peerInfoMapper: passthroughMapper })
  }
})
const blockstore = new MemoryBlockstore()
const helia = new Helia({
  libp2p,
  blockBrokers: [bitswap()],
  routers: [libp2pRouting(libp2p)],
  blockstore,
  datastore: new MemoryDatastore()
})
await helia.start()

const server = await createPinningServiceAPIServer(helia, {
  validateAccessToken: async token => {
    if (token !== options.token) throw new Error('not this token')
    return { id: 'user' }
  },
  listen: { host: '127.0.0.1', port: 0 }
})

event('ready', {
  peer: String(libp2p.peerId),
  addresses: libp2p.getMultiaddrs().map(String),
  url: `http://127.0.0.1:${server.server.address().port}`,
  token: options.token
})
serve({
  has: async cids => ({ has: await Promise.all(cids.map(cid => blockstore.has(CID.parse(cid)))) }),
  peers: () => ({ connected: libp2p.getPeers().map(String) }),
  connect: async ([to]) => {
    const connection = await libp2p.dial(multiaddr(to), { signal: AbortSignal.timeout(NETWORK_MS) })
    return { peer: String(connection.remotePeer) }
  },
  hangup: async () => {
    await Promise.all(libp2p.getConnections().map(connection => connection.close()))
  },
  quit: async () => {
    await server.close()
    await helia.stop()
  }
})
