// A real @orbitdb/core peer on Helia and libp2p, for the interop tests. It runs on Node 22 or later: see `peer`.
//
//   peer [--listen MULTIADDR]… [--dir DIR] [--seed TEXT] [--write '*'|self|ID,ID…] [--dht]
//
// It listens on 127.0.0.1 alone unless told otherwise (a free port for TCP, another one for WebSocket), knows no
// bootstrap peers, no gateways and no routers over HTTP, and dials nobody that it was not told of. With `--dht` it is a
// server of the Kademlia network `/ipfs/lan/kad/1.0.0`, the one that Kubo uses where addresses are private.
// Everything is in memory unless `--dir` is given. `--seed` fixes the peer id. New logs are of type `events`.
//
// Commands, one a line on standard input, answered as lines.mjs says; * are those that the next ones do not wait for:
//
//   open NAME|ADDRESS       opens a log, which is then the current one          use ADDRESS    another open one is
//   close                   closes the current log                              heads          of the current log
//   add TEXT                appends, as do addjson JSON and addhex HEX          all            all entries, newest first
//   addn N SIZE             appends N texts of that many characters             count          walks and counts them
//   until N|HASH…         * when the log has N entries, or all of these         peers          who is there
//   connect MULTIADDR       hangup [PEER]: closes its connections, or all       usage          memory, processor time
//   put HEX [raw]           keeps a block of dag-cbor, or of raw bytes          get CID [MS] * fetches one
//   publish HEX             on the current log's topic, whatever it is
//   offer PEER HEX…         as heads of the current log, one frame each, on one stream
//   provide CID [MS]        tells the DHT                                       providers CID [MS]   asks it
//
// Events: `ready` first, then `connect`, `disconnect`, `subscription`, and for each log `join`, `leave`, `update` and
// `error`.
import { createHash, randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { bitswap } from '@helia/block-brokers'
import { libp2pRouting } from '@helia/routers'
// The class that `createHelia` of helia 6.1 returns. That function adds public gateways and routers, and the package
// 180 others: nothing of them is wanted here.
import { Helia } from '@helia/utils'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createOrbitDB, Identities, IPFSAccessController, KeyStore, MemoryStorage } from '@orbitdb/core'
import { MemoryBlockstore } from 'blockstore-core'
import { LevelBlockstore } from 'blockstore-level'
import { MemoryDatastore } from 'datastore-core'
import { LevelDatastore } from 'datastore-level'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { sha256 } from 'multiformats/hashes/sha2'
import { event, serve, tellErrors, words } from '../lines.mjs'

const DAG_CBOR = 0x71
// Far above what a look-up on loopback takes, and below the time-outs of the tests.
const NETWORK_MS = 20_000
// Tests start several peers on one address at once, which js-libp2p takes for an attack by default.
const CONNECTIONS_A_SECOND = 1_000
// Values longer than this are not repeated in an `update`: whoever wants them asks for `all`.
const MAX_VALUE_IN_EVENT = 200

const { values: options } = parseArgs({
  options: {
    listen: { type: 'string', multiple: true, default: ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws'] },
    dir: { type: 'string' },
    seed: { type: 'string' },
    write: { type: 'string', default: '*' },
    dht: { type: 'boolean', default: false }
  }
})

const unhex = text => Uint8Array.from(Buffer.from(text, 'hex'))
const hash = text => createHash('sha256').update(text).digest()

// @orbitdb/core reports an entry that it cannot join to the console alone.
tellErrors()

async function startHelia() {
  const libp2p = await createLibp2p({
    ...(options.seed && { privateKey: await generateKeyPairFromSeed('Ed25519', hash(options.seed)) }),
    addresses: { listen: options.listen },
    transports: [tcp(), webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionManager: { inboundConnectionThreshold: CONNECTIONS_A_SECOND },
    services: {
      identify: identify(),
      ping: ping(),
      // Without this, an append fails where nobody has subscribed, although it is stored.
      pubsub: gossipsub({ allowPublishToZeroTopicPeers: true }),
      ...(options.dht && {
        dht: kadDHT({ protocol: '/ipfs/lan/kad/1.0.0', clientMode: false, peerInfoMapper: passthroughMapper })
      })
    }
  })
  const helia = new Helia({
    libp2p,
    blockBrokers: [bitswap()],
    routers: options.dht ? [libp2pRouting(libp2p)] : [],
    blockstore: options.dir ? new LevelBlockstore(`${options.dir}/blocks`) : new MemoryBlockstore(),
    datastore: options.dir ? new LevelDatastore(`${options.dir}/data`) : new MemoryDatastore()
  })
  await helia.start()
  return helia
}

async function startOrbit(helia) {
  const directory = options.dir && `${options.dir}/orbitdb`
  const keystore = await KeyStore(directory ? { path: `${directory}/keystore` } : { storage: await MemoryStorage() })
  const identities = await Identities({ keystore, ipfs: helia })
  const identity = await identities.createIdentity({ id: 'peer' })
  const orbit = await createOrbitDB({ ipfs: helia, identities, identity, directory })
  return { orbit, identity, keystore }
}

const helia = await startHelia()
const { libp2p, blockstore } = helia
const { orbit, identity, keystore } = await startOrbit(helia)
const { pubsub } = libp2p.services

libp2p.addEventListener('peer:connect', ({ detail }) => event('connect', { peer: String(detail) }))
libp2p.addEventListener('peer:disconnect', ({ detail }) => event('disconnect', { peer: String(detail) }))
pubsub.addEventListener('subscription-change', ({ detail }) => {
  for (const { topic, subscribe } of detail.subscriptions) {
    event('subscription', { peer: String(detail.peerId), log: topic, subscribed: subscribe })
  }
})

// Address to { db, changed }; `changed` are those that wait for the log to grow.
const logs = new Map()
let current

function log() {
  if (!current) throw new Error('no log is open')
  return current
}

async function open(name) {
  const write = options.write === 'self' ? [identity.id] : options.write.split(',')
  const inMemory = { headsStorage: await MemoryStorage(), indexStorage: await MemoryStorage() }
  const db = await orbit.open(name, {
    type: 'events',
    AccessController: IPFSAccessController({ write }),
    ...(!options.dir && inMemory)
  })
  if (!logs.has(db.address)) {
    logs.set(db.address, { db, changed: new Set() })
    watch(logs.get(db.address))
  }
  current = logs.get(db.address)
  return { log: db.address, name: db.name, write: db.access.write }
}

function watch({ db, changed }) {
  const log = db.address
  db.events.on('join', (peer, heads) => event('join', { log, peer: String(peer), heads: heads.map(head => head.hash) }))
  db.events.on('leave', peer => event('leave', { log, peer: String(peer) }))
  db.events.on('error', error => event('error', { where: 'log', log, error: words(error), name: error?.name }))
  db.events.on('update', ({ hash, clock, key, next, refs, payload: { value } }) => {
    const isShort = typeof value === 'string' && value.length <= MAX_VALUE_IN_EVENT
    event('update', { log, hash, time: clock.time, key, next: next.length, refs: refs.length, ...(isShort && { value }) })
    for (const look of changed) look()
  })
}

async function close() {
  const { db } = log()
  await db.close()
  logs.delete(db.address)
  current = undefined
}

const entry = ({ hash, v, clock, key, sig, identity, next, refs, payload }) =>
  ({ hash, v, clock, key, sig, identity, next, refs, payload })

async function all() {
  const entries = []
  for await (const one of log().db.log.iterator()) entries.push(entry(one))
  return { entries }
}

async function count(db = log().db, most = Infinity) {
  let n = 0
  for await (const _ of db.log.iterator()) {
    if (++n >= most) break
  }
  return { n }
}

// When the log has so many entries, or all of these. One look at a time: entries that come meanwhile cause one more.
function until(wanted) {
  const { db, changed } = log()
  const enough = /^\d+$/.test(wanted[0])
    ? async () => (await count(db, Number(wanted[0]))).n >= Number(wanted[0])
    : async () => (await Promise.all(wanted.map(hash => db.log.has(hash)))).every(Boolean)
  return new Promise((resolve, reject) => {
    let isLooking = false
    let again = false
    const look = async () => {
      again = true
      if (isLooking) return
      isLooking = true
      try {
        while (again) {
          again = false
          if (await enough()) {
            changed.delete(look)
            resolve({})
          }
        }
      } catch (error) {
        changed.delete(look)
        reject(error)
      }
      isLooking = false
    }
    changed.add(look)
    look()
  })
}

async function append(values) {
  const { db } = log()
  let last
  for (const value of values) last = await db.add(value)
  return { hash: last }
}

function* texts(n, size) {
  for (let i = 0; i < n; i++) yield randomBytes(size).toString('base64').slice(0, size)
}

const limit = ms => ({ signal: AbortSignal.timeout(Number(ms ?? NETWORK_MS)) })

async function put(hex, codec) {
  const bytes = unhex(hex)
  const cid = CID.createV1(codec === 'raw' ? raw.code : DAG_CBOR, await sha256.digest(bytes))
  await blockstore.put(cid, bytes)
  return { cid: String(cid) }
}

async function get(cid, ms) {
  const parts = []
  for await (const part of blockstore.get(CID.parse(cid), limit(ms))) parts.push(part)
  return { bytes: Uint8Array.from(Buffer.concat(parts)) }
}

async function offer(peer, heads) {
  const protocol = `/orbitdb/heads${log().db.address}`
  const stream = await libp2p.dialProtocol(peerIdFromString(peer), protocol, limit())
  for (const head of heads) {
    if (!stream.send(unhex(head))) await stream.onDrain(limit())
  }
  await stream.close(limit())
}

async function connect(to) {
  const connection = await libp2p.dial(multiaddr(to), limit())
  return { peer: String(connection.remotePeer), address: String(connection.remoteAddr) }
}

async function hangup(peer) {
  const connections = libp2p.getConnections(peer && peerIdFromString(peer))
  await Promise.all(connections.map(connection => connection.close()))
}

async function providers(cid, ms) {
  const found = []
  for await (const { id, multiaddrs } of helia.routing.findProviders(CID.parse(cid), limit(ms))) {
    found.push({ peer: String(id), addresses: multiaddrs.map(String) })
  }
  return { providers: found }
}

function peers() {
  const { db } = log()
  const subscribed = pubsub.getSubscribers(db.address).map(String)
  return { log: [...db.peers], subscribed, connected: libp2p.getPeers().map(String) }
}

function usage() {
  const { user, system } = process.cpuUsage()
  return { rss: process.memoryUsage().rss, cpu_ms: (user + system) / 1000 }
}

async function stop() {
  await orbit.stop()
  await keystore.close()
  await helia.stop()
}

event('ready', {
  peer: String(libp2p.peerId),
  addresses: libp2p.getMultiaddrs().map(String),
  identity: { id: identity.id, hash: identity.hash, publicKey: identity.publicKey }
})
serve({
  open: ([name]) => open(name),
  use: ([address]) => {
    if (!logs.has(address)) throw new Error('no such log is open')
    current = logs.get(address)
  },
  close,
  add: (_, text) => append([text]),
  addjson: (_, text) => append([JSON.parse(text)]),
  addhex: ([hex]) => append([unhex(hex)]),
  addn: ([n, size]) => append(texts(Number(n), Number(size))),
  all,
  count: () => count(),
  until: wanted => until(wanted),
  heads: async () => ({ heads: (await log().db.log.heads()).map(({ hash, clock }) => ({ hash, time: clock.time })) }),
  peers,
  usage,
  connect: ([to]) => connect(to),
  hangup: ([peer]) => hangup(peer),
  put: ([hex, codec]) => put(hex, codec),
  get: ([cid, ms]) => get(cid, ms),
  publish: async ([hex]) => ({ to: (await pubsub.publish(log().db.address, unhex(hex))).recipients.map(String) }),
  offer: ([peer, ...heads]) => offer(peer, heads),
  provide: ([cid, ms]) => helia.routing.provide(CID.parse(cid), limit(ms)),
  providers: ([cid, ms]) => providers(cid, ms),
  quit: stop
}, ['until', 'get'])
