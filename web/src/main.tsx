import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { ApiError } from "@/api/client";
import { forgetSession } from "@/session";
import { applyTheme } from "@/ui/theme";
import { router } from "./router";
import "./styles.css";

applyTheme();

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      // What the server has said about a request it will say again; only a lost connection is worth another try.
      retry: (failures, error) => failures < 2 && error instanceof ApiError && error.status === 0,
    },
  },
});
queries.getQueryCache().subscribe(({ query }) => {
  const { error } = query.state;
  if (error instanceof ApiError && error.status === 401 && query.queryKey[0] !== "session") {
    forgetSession();
    queries.setQueryData(["session"], null);
  }
});

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no element #root");
createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <RouterProvider router={router} />
    </QueryClientProvider>
  </StrictMode>,
);
