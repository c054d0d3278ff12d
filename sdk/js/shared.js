// Values that all PoPs of a fleet share, for guests in JavaScript: the same words as the Go SDK's package shared.
//
//   import { open } from "@wedge-cloud/shared";
//   const visits = await open("book").counter("visits").add(1);
//
// wedge.toml names the store, and the way to it:
//
//   [stores.book]
//   scope = "merge"
//   [backends.state]
//   url = "http://state.wedge.internal"

/** The name of the backend by which a service reaches its shared values. */
export const BACKEND = "state";

/** Why something was not done. */
export class SharedError extends Error {
  /**
   * @param {number} status of HTTP
   * @param {{kind?: string, error?: string, hint?: string}} answer
   */
  constructor(status, answer) {
    super(answer.error || `status ${status}`);
    this.name = "SharedError";
    this.status = status;
    this.kind = answer.kind || "";
    this.hint = answer.hint || "";
  }

  /** Nothing is there. */
  get notExist() { return this.status === 404; }
  /** It was changed meanwhile, or is of another kind. */
  get conflict() { return this.status === 409 || this.status === 412; }
  /** There are too few units of a stock, here and at those PoPs that can be reached. */
  get short() { return this.status === 429; }
  /** What is here is not as new as was asked for. */
  get stale() { return this.status === 504; }
}

/**
 * How new a read has to be; nothing older is answered.
 * @typedef {object} Read
 * @property {number} [maxStaleness] seconds: nothing may be missing that the core had so long ago
 * @property {string} [atLeast] the token of a write that the read must have seen
 * @property {number} [wait] seconds to wait for that; else 2
 */

/**
 * Where an answer comes from, and how old it may be.
 * @typedef {object} Origin
 * @property {string} pop which answered
 * @property {string} from of a plain key: the PoP that wrote it
 * @property {number} age seconds; what others wrote before that is in it. NaN: this PoP has not heard of others
 * @property {boolean} asked of a spend: other PoPs were asked for units
 * @property {number} left of a stock: units that this PoP may spend by itself
 * @property {string} token of a write: for Read.atLeast, at another PoP too
 * @property {string} tag of a plain key: for ifTag
 */

/** @param {Headers} headers @returns {Origin} */
export function originOf(headers) {
  const parts = Object.fromEntries((headers.get("wedge-state") || "").split(";").map(part => {
    const [name, ...value] = part.trim().split("=");
    return [name, value.join("=").replace(/^"|"$/g, "")];
  }));
  return {
    pop: parts.pop || "", from: parts.from || "", age: "age" in parts ? Number(parts.age) : NaN, asked: "asked" in parts,
    left: Number(headers.get("wedge-left") || 0), token: headers.get("wedge-state-token") || "", tag: headers.get("etag") || "",
  };
}

/**
 * Opens a store that the service binds.
 * @param {string} name
 * @param {Read} [read]
 * @param {typeof fetch} [send] for tests
 */
export function open(name, read = {}, send = (url, init) => fetch(url, { ...init, backend: BACKEND })) {
  return new Store(name, read, send);
}

/** A store. */
export class Store {
  #name; #read; #send;
  /** @type {Origin|null} where the last answer to this Store comes from */
  last = null;

  constructor(name, read, send) {
    this.#name = name;
    this.#read = read;
    this.#send = send;
  }

  /** The same store, with reads as new as that. @param {Read} read */
  reading(read) { return new Store(this.#name, read, this.#send); }

  /** @returns {Promise<Response>} one that is no error */
  async request(method, key, { query = "", body = undefined, headers = {} } = {}) {
    const path = [this.#name, ...key.split("/")].map(encodeURIComponent).join("/");
    if (method === "GET") {
      const { maxStaleness, atLeast, wait } = this.#read;
      if (maxStaleness !== undefined) headers["Wedge-Max-Staleness"] = String(maxStaleness);
      if (atLeast) headers["Wedge-At-Least"] = atLeast;
      if (wait !== undefined) headers["Wedge-Wait"] = String(wait);
    }
    const response = await this.#send(`http://state.wedge.internal/${path}${query}`, { method, body, headers });
    this.last = originOf(response.headers);
    if (response.ok) return response;
    let answer = {};
    try { answer = await response.json(); } catch { /* the status has to do */ }
    throw new SharedError(response.status, answer);
  }

  /** What a plain key holds; null if nothing. @param {string} key @returns {Promise<Response|null>} */
  async get(key) { return absent(this.request("GET", key), null); }

  /**
   * Writes a plain key.
   * @param {string} key
   * @param {BodyInit} value
   * @param {{ttl?: number, add?: boolean, ifTag?: string, extra?: string}} [options] ttl in seconds; add: only if nothing is there; ifTag:
   *   only if it is still at this tag; extra: metadata
   */
  async put(key, value, { ttl, add, ifTag, extra } = {}) {
    const headers = {};
    if (ttl !== undefined) headers["Wedge-TTL"] = String(ttl);
    if (add) headers["If-None-Match"] = "*";
    if (ifTag) headers["If-Match"] = ifTag;
    if (extra) headers["Wedge-Metadata"] = extra;
    await this.request("PUT", key, { body: value, headers });
  }

  /** Removes what a key holds, whatever its kind. @param {string} key */
  async delete(key) { await this.request("DELETE", key); }

  /** @param {string} key */
  counter(key) { return new Counter(this, key, "counter"); }
  /** @param {string} key */
  set(key) { return new SharedSet(this, key, "add-wins"); }
  /** @param {string} key */
  list(key) { return new List(this, key, "list"); }
  /** @param {string} key */
  map(key) { return new SharedMap(this, key, "map"); }
  /** @param {string} key */
  stock(key) { return new Stock(this, key, "stock"); }
}

/** @template T @param {Promise<T>} promise @param {T} otherwise */
async function absent(promise, otherwise) {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof SharedError && error.notExist) return otherwise;
    throw error;
  }
}

/** A key, or a field of the map that a key holds. */
class Value {
  /** @param {Store} store @param {string} key @param {string} kind @param {string[]} [path] */
  constructor(store, key, kind, path) {
    this.store = store;
    this.key = key;
    this.kind = kind;
    this.path = path;
  }

  /** Carries out an operation; returns what the value is then. */
  async change(op) {
    let kind = this.kind;
    if (this.path) {
      op = { ...op, path: this.path, kind };
      kind = "map";
    }
    const response = await this.store.request("POST", this.key, { query: `?kind=${kind}`, body: JSON.stringify(op) });
    return this.#follow(await response.json());
  }

  /** What is there; undefined if nothing is. */
  async read() {
    const response = await this.store.get(this.key);
    return response ? this.#follow(await response.json()) : undefined;
  }

  #follow(value) {
    for (const name of this.path || []) value = value && Object.hasOwn(value, name) ? value[name] : undefined;
    return value;
  }
}

/** Counts, at all PoPs at once. */
export class Counter extends Value {
  /** Adds n, which may be negative; returns what it comes to here. @param {number} [n] @returns {Promise<number>} */
  async add(n = 1) { return n === 0 ? this.value() : this.change({ op: "add", by: n }); }
  /** What was counted, as far as is known here. @returns {Promise<number>} */
  async value() { return (await this.read()) ?? 0; }
}

/** Has JSON values, each once. What one PoP adds and another removes at the same time is in it. */
export class SharedSet extends Value {
  async add(element) { return this.change({ op: "add", value: element }); }
  async remove(element) { return this.change({ op: "remove", value: element }); }
  /** @returns {Promise<any[]>} */
  async all() { return (await this.read()) ?? []; }
}

/** Has JSON values in an order. keep: items at the other end beyond so many are removed. */
export class List extends Value {
  async append(value, keep = 0) { return this.change({ op: "append", value, keep }); }
  async prepend(value, keep = 0) { return this.change({ op: "prepend", value, keep }); }
  /** Puts a value after the item of an id. */
  async insert(after, value) { return this.change({ op: "insert", id: after, value }); }
  async remove(id) { return this.change({ op: "remove", id }); }
  /** @returns {Promise<{id: string, at: string, value: any}[]>} */
  async items() { return (await this.read()) ?? []; }
}

/** Has one JSON value: of two that were written at the same time, the later. */
export class Register extends Value {
  /** who: to whom it was promised; should another write have been later, the apology says so. */
  async set(value, who = "") { return this.change(who ? { op: "set", value, who } : { op: "set", value }); }
  async get() { return this.read(); }
}

/** Has values of these kinds under names. */
export class SharedMap extends Value {
  #field(name) { return [...(this.path || []), name]; }
  counter(name) { return new Counter(this.store, this.key, "counter", this.#field(name)); }
  set(name) { return new SharedSet(this.store, this.key, "add-wins", this.#field(name)); }
  list(name) { return new List(this.store, this.key, "list", this.#field(name)); }
  register(name) { return new Register(this.store, this.key, "register", this.#field(name)); }
  map(name) { return new SharedMap(this.store, this.key, "map", this.#field(name)); }
  async all() { return (await this.read()) ?? {}; }
  /** Removes a field. */
  async drop(name) { await new Value(this.store, this.key, "map").change({ op: "drop", path: this.#field(name) }); }
}

/**
 * What is known here of a stock; left: what this PoP may spend by itself.
 * @typedef {{total: number, spent: number, left: number, shares: {granter: string, holder: string, left: number, until: string}[]}} StockState
 */

/** Counts something scarce. It is never spent twice, whatever is cut off from what. */
export class Stock extends Value {
  #state(value) { return { total: 0, spent: 0, shares: [], ...value, left: this.store.last?.left ?? 0 }; }
  /** Puts n units more there, at this PoP. @param {number} n @returns {Promise<StockState>} */
  async add(n) { return this.#state(await this.change({ op: "stock", by: n })); }
  /**
   * Spends n units. If there are too few here other PoPs are asked for some; if they cannot be had, the error's short is true, and its text
   * says where there may be more.
   * @param {number} [n] @returns {Promise<StockState>}
   */
  async spend(n = 1) { return this.#state(await this.change({ op: "spend", by: n })); }
  /** @returns {Promise<StockState>} */
  async state() { return this.#state(await this.read()); }
}

/**
 * What this service promised at this PoP and cannot keep.
 * @typedef {{store: string, key: string, path?: string[], id: string, reason: string, writer: string, who?: string, at?: string, value?: any, instead?: any, amount?: number}} Apology
 */

/**
 * Answers a request to the path that wedge.toml names under apologies. What take throws on is told again; it may be told twice all the same.
 * @param {Request} request
 * @param {(apology: Apology) => Promise<void>|void} take
 * @returns {Promise<Response>}
 */
export async function apologies(request, take) {
  if (request.method !== "POST") return new Response("POST an apology", { status: 405 });
  let apology;
  try {
    apology = await request.json();
  } catch (error) {
    return new Response(String(error), { status: 400 });
  }
  try {
    await take(apology);
  } catch (error) {
    return new Response(String(error), { status: 503 });
  }
  return new Response(null, { status: 204 });
}
