/** What people may do in a tenant, by their role. */
export const ROLES = [
  { name: "owner", may: "Everything, and makes other owners." },
  { name: "admin", may: "Manages keys, members, limits and webhooks, besides all below." },
  { name: "member", may: "Runs models, pushes and changes adapters, sees usage." },
  { name: "viewer", may: "Sees adapters, requests and usage, and changes nothing." },
] as const;
export type RoleName = (typeof ROLES)[number]["name"];

/** The address that whoever is invited opens. The code is behind the `#`, which browsers send to nobody. */
export function invitationLink(origin: string, code: string): string {
  return `${origin}/join#${encodeURIComponent(code)}`;
}

/** The code in such an address; empty if there is none, or it is broken. */
export function codeIn(hash: string): string {
  try {
    return decodeURIComponent(hash.replace(/^#/, ""));
  } catch {
    return "";
  }
}
