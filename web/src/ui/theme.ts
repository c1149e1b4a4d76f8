/** Light, dark, or as the system is. */
const KEY = "loraplex.theme";
export type Theme = "system" | "light" | "dark";

export function theme(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : "system";
}

export function applyTheme(next: Theme = theme()): void {
  if (next === "system") {
    localStorage.removeItem(KEY);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(KEY, next);
    document.documentElement.dataset.theme = next;
  }
  // Charts are painted, not styled: they have to be told.
  window.dispatchEvent(new Event("themechange"));
}
