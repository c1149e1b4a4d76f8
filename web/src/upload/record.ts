/** Remembers in this browser which upload a file belongs to, so that it continues after a reload. */
export interface Remembered {
  id: string;
  /** Config and alias it was announced with. With others it is another upload. */
  about: string;
}

type Store = Pick<Storage, "getItem" | "setItem" | "removeItem">;

export function recordKey(tenant: string, name: string, sha256: string): string {
  return `loraplex.upload:${JSON.stringify([tenant, name, sha256])}`;
}

export function recall(store: Store, key: string, about: string): string | null {
  try {
    const found = JSON.parse(store.getItem(key) ?? "null") as Remembered | null;
    return found?.about === about ? found.id : null;
  } catch {
    return null;
  }
}

/** A browser whose store is full or forbidden uploads all the same, and cannot continue after a reload. */
export function remember(store: Store, key: string, record: Remembered): void {
  try {
    store.setItem(key, JSON.stringify(record));
  } catch {}
}
