"""Owns the routes of a tenant's members and of invitations into it."""

from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath

from loraplex.platform.accounts.answers import NO_STORE
from loraplex.platform.accounts.invitations import InvitationService
from loraplex.platform.accounts.members import MemberService
from loraplex.platform.accounts.operations import AddMemberOperation, ChangeMemberOperation
from loraplex.platform.accounts.schemas import (
    InvitationCreate,
    InvitationList,
    InvitationOut,
    MemberChange,
    MemberCreate,
    MemberList,
    MemberOut,
)
from loraplex.platform.accounts.session_controller import BODY_LIMIT
from loraplex.platform.auth.guards import requires_operator, requires_tenant_admin
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.nul import refuse_nul
from loraplex.platform.tenants.service import TenantService


class MemberController(Controller):
    """Operators and a tenant's admins see to its members."""

    path = "/api/v1/tenants/{tenant:str}/members"
    tags = ("members",)
    guards = (requires_tenant_admin, refuse_nul)
    request_max_body_size = BODY_LIMIT

    @get(operation_id="ListMembers")
    async def list_members(
        self,
        tenant: FromPath[str],
        tenants: NamedDependency[TenantService],
        members: NamedDependency[MemberService],
    ) -> MemberList:
        """Every member of the tenant."""
        owner = await tenants.get(tenant)
        return MemberList([MemberOut.of(row) for row in await members.list(owner.id)])

    @post(operation_id="AddMember", operation_class=AddMemberOperation, guards=[requires_operator])
    async def add(
        self,
        request: Request[Any, Any, State],
        tenant: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        members: NamedDependency[MemberService],
    ) -> MemberOut:
        """Operators only: make somebody with an account a member. Admins of the tenant invite instead."""
        data = decode_body(await request.body(), MemberCreate)
        owner = await tenants.get(tenant)
        return MemberOut.of(await members.add(principal, owner.id, data.email, data.role))

    @get("/{user_id:str}", operation_id="GetMember")
    async def get_member(
        self,
        tenant: FromPath[str],
        user_id: FromPath[str],
        tenants: NamedDependency[TenantService],
        members: NamedDependency[MemberService],
    ) -> MemberOut:
        """One member."""
        owner = await tenants.get(tenant)
        return MemberOut.of(await members.get(owner.id, user_id))

    @patch("/{user_id:str}", operation_id="ChangeMember", operation_class=ChangeMemberOperation)
    async def change(
        self,
        request: Request[Any, Any, State],
        tenant: FromPath[str],
        user_id: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        members: NamedDependency[MemberService],
    ) -> MemberOut:
        """Give a member another role. The user has to sign in again."""
        data = decode_body(await request.body(), MemberChange)
        owner = await tenants.get(tenant)
        return MemberOut.of(await members.change(principal, owner.id, user_id, data.role))

    @delete("/{user_id:str}", operation_id="RemoveMember")
    async def remove(
        self,
        tenant: FromPath[str],
        user_id: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        members: NamedDependency[MemberService],
    ) -> None:
        """Take a member out of the tenant; the account stays."""
        owner = await tenants.get(tenant)
        await members.remove(principal, owner.id, user_id)


class InvitationController(Controller):
    """Operators and a tenant's admins invite people into it."""

    path = "/api/v1/tenants/{tenant:str}/invitations"
    tags = ("members",)
    guards = (requires_tenant_admin, refuse_nul)
    request_max_body_size = BODY_LIMIT

    @post(operation_id="CreateInvitation", operation_class=AddMemberOperation)
    async def create(
        self,
        request: Request[Any, Any, State],
        tenant: FromPath[str],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        invitations: NamedDependency[InvitationService],
    ) -> Response[InvitationOut]:
        """Invite somebody. Its code is in this answer and nowhere else; no mail is sent."""
        data = decode_body(await request.body(), InvitationCreate)
        owner = await tenants.get(tenant)
        row, code = await invitations.create(principal, owner.id, data.email, data.role)
        return Response(InvitationOut.of(row, code), headers=NO_STORE)

    @get(operation_id="ListInvitations")
    async def list_invitations(
        self,
        tenant: FromPath[str],
        tenants: NamedDependency[TenantService],
        invitations: NamedDependency[InvitationService],
    ) -> InvitationList:
        """Invitations that can still be accepted."""
        owner = await tenants.get(tenant)
        return InvitationList([InvitationOut.of(row) for row in await invitations.list(owner.id)])

    @delete("/{invitation_id:uuid}", operation_id="RevokeInvitation")
    async def revoke(
        self,
        tenant: FromPath[str],
        invitation_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        tenants: NamedDependency[TenantService],
        invitations: NamedDependency[InvitationService],
    ) -> None:
        """Take an invitation back."""
        owner = await tenants.get(tenant)
        await invitations.revoke(principal, owner.id, invitation_id)
