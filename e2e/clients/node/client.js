// kafkajs, driven by the tests. The commands are described in drivers.go.
// It brings gzip itself; the other codecs are packages that it is told of.
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const lz4 = require('lz4js')
const { ZstdCodec } = require('zstd-codec')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
})
const zstd = new Promise((resolve) => ZstdCodec.run((z) => resolve(new z.Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from((await zstd).decompress(buffer)),
})
const codecs = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD,
}

const client = (addr) => new Kafka({ clientId: 'node', brokers: [addr], logLevel: logLevel.WARN, logCreator: () => ({ log }) => console.error(log.message, log.error || '') })

async function produce(addr, topic, codec, from, to) {
  const producer = client(addr).producer()
  await producer.connect()
  for (let i = from; i < to; ) {
    const messages = []
    for (const end = Math.min(to, i + 500); i < end; i++) {
      messages.push({ key: `key-${i}`, value: `value-${i}-${'x'.repeat(50)}`, headers: { i: `${i}` } })
    }
    await producer.send({ topic, compression: codecs[codec], acks: -1, messages })
  }
  await producer.disconnect()
}

async function consume(addr, topic, group) {
  const consumer = client(addr).consumer({ groupId: group, heartbeatInterval: 300, maxWaitTimeInMs: 100, sessionTimeout: 10000 })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => console.log('assigned ' + (payload.memberAssignment[topic] || []).join(',')))
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: true,
    eachBatch: async ({ batch, resolveOffset, heartbeat, commitOffsetsIfNecessary, isRunning, isStale }) => {
      for (const m of batch.messages) {
        if (!isRunning() || isStale()) break
        console.log(`record ${batch.partition} ${m.offset} ${m.key} ${m.value} ${m.headers.i || '-'}`)
        resolveOffset(m.offset)
      }
      await heartbeat()
      await commitOffsetsIfNecessary()
    },
  })
  await new Promise((resolve) => process.stdin.once('data', resolve).once('end', resolve))
  await consumer.disconnect()
  console.log('closed')
}

async function copy(addr, source, target, group, transactionalId) {
  const kafka = client(addr)
  const consumer = kafka.consumer({ groupId: group, heartbeatInterval: 300, maxWaitTimeInMs: 100, sessionTimeout: 6000, readUncommitted: false })
  const producer = kafka.producer({ transactionalId, maxInFlightRequests: 1, idempotent: true, transactionTimeout: 10000 })
  await producer.connect()
  await consumer.connect()
  await consumer.subscribe({ topic: source, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch, heartbeat, isRunning, isStale }) => {
      for (let at = 0; at < batch.messages.length && isRunning() && !isStale(); at += 500) {
        const part = batch.messages.slice(at, at + 500)
        try {
          const transaction = await producer.transaction()
          await transaction.send({ topic: target, messages: part.map(({ key, value }) => ({ key, value })) })
          const offset = (BigInt(part[part.length - 1].offset) + 1n).toString()
          await transaction.sendOffsets({ consumerGroupId: group, topics: [{ topic: source, partitions: [{ partition: batch.partition, offset }] }] })
          await transaction.commit()
        } catch (err) {
          console.error(err) // the test starts the next one
          process.exit(1)
        }
        console.log(`copied ${part.length}`)
        await heartbeat()
      }
    },
  })
  await new Promise((resolve) => process.stdin.once('data', resolve).once('end', resolve))
  await consumer.disconnect()
  console.log('closed')
}

const [command, ...args] = process.argv.slice(2)
const commands = { produce: () => produce(args[0], args[1], args[2], Number(args[3]), Number(args[4])), consume: () => consume(...args), copy: () => copy(...args) }
const run = commands[command]()
run.then(() => process.exit(0), (err) => { console.error(err); process.exit(1) })
